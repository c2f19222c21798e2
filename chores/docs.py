"""Read the commands and outputs in README.md and docs/, run them again and compare; `inv docs` renews the outputs.

A block contains commands, each after `$ `, and their output. A block `from a pod` needs one (tests/ssh/test_docs.py).

    <!-- output -->
    ```console
    $ pi --version
    pi 0.1.0
    ```
    <!-- /output -->
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]

RENEW = "PI_RENEW_DOCS"
"""`inv docs` sets this variable: the tests of the pages then write changed outputs instead of failing."""

BLOCK = re.compile(r"(<!-- output( from a pod)? -->\n```console\n)(.*?)(```\n<!-- /output -->)", re.DOTALL)

VARIES = {
    r"SHA256:[\w+/]+": "SHA256:KEY",
    r"\d{4}-\d\d-\d\d(T[\d:]+Z)?": "DATE",
    r"\b\d\d:\d\d(:\d\d)?\b": "CLOCK",
    r"\b\d+(\.\d+)? (ms|s|min|h|days)\b": "TIME",
    r"(, \d+(\.\d+)? tokens/s)?, (\d+ tool calls?)": r", \3",
    r"(?m)^- machine: [^;]*;": "- machine: IT;",
    r"\b\d+ Gi?B of disk( are)? free(, (too few|not enough))?": "SPACE",
    r"\bdownloading \d+(\.\d+)? [MG]B of (.*), \d+(\.\d+)? [MG]B/s(, about .* left)?": r"downloading N of \2",
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/\d+)?": "UUID",
    r"\b\d{8}-\d{6}-\d+-[0-9a-f]+": "ID",
    r'"(pid|pid_start)": \d+': r'"\1": N',
    r'"instance": "[0-9a-f]+"': '"instance": "ID"',
    r'_seconds": [\d.]+': '_seconds": N',
    r'"seconds": [\d.]+': '"seconds": N',
    r'"tokens_per_second": (null|[\d.]+)': '"tokens_per_second": N',
    r" at /\S*/python3[.\d]*": " at PYTHON",
    r"\bpid \d+": "pid N",
    r"\b(up|connecting) +\d+": r"\1 N",
    r"\bPython 3(\.\d+)+": "Python 3",
    r"\buv \d+(\.\d+)+": "uv N",
    r"-{3,}": "---",
    r" +": " ",
}
"""Patterns of values that vary between runs, and their replacements."""


def pages() -> list[Path]:
    """Return README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, *, from_pod: bool) -> list[str]:
    """Return the text of the page's blocks that need a pod, or of those that need none."""
    matches = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [block[3] for block in matches if bool(block[2]) is from_pod]


def commands(block: str) -> list[str]:
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


def same(shown: str, printed: str) -> bool:
    """Return whether two outputs are equal, apart from values that vary between runs."""
    return _steady(shown) == _steady(printed)


def _steady(text: str) -> str:
    for pattern, word in VARIES.items():
        text = re.sub(pattern, word, text)
    return text


def drift(page: Path, run: Callable[[str], str], *, from_pod: bool) -> list[tuple[str, str]]:
    """Run the page's commands in order. Returns each changed block with its new text."""
    drifted = []
    for block in blocks(page, from_pod=from_pod):
        fresh = "".join(f"$ {command}\n{run(command)}" for command in commands(block))
        if not same(block, fresh):
            drifted.append((block, fresh))
    return drifted


def renew(page: Path, drifted: list[tuple[str, str]]) -> None:
    """Write the new text of changed blocks into the page."""
    text = page.read_text(encoding="utf-8")
    for block, fresh in drifted:
        text = text.replace(f"```console\n{block}```", f"```console\n{fresh}```")
    fresh_page = page.with_suffix(".new")  # another page may be reading this one
    fresh_page.write_text(text, encoding="utf-8")
    fresh_page.replace(page)
