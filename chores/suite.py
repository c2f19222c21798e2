"""The options of `inv test`: parallel workers, each with its own network, and the selection for --quick."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig import alone

ROOT = Path(__file__).parents[1]
SSH = ROOT / "tests" / "ssh"
FAILED = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"

WORKERS_PER_CORE = 5
"""Most tests wait for processes and use a fifth of a core."""

MOST_WORKERS = 24

MOST_REPEATED = 5
"""If more tests fail, the machine's load is not the cause."""

SERVED_BY = {"status": "list", "survey": "plan", "planner": "plan", "journal": "interrupt", "follow": "interrupt"}
"""Modules whose SSH tests have another name."""

VERB_FOLDERS = {"prompt", "setup"}
"""Folders that belong to one verb."""

SHARED = ("pi/", "tests/rig/", "tests/ssh/conftest.py", "setup.cfg")


def options(in_order: bool = False) -> list[str]:
    """Return pytest's options for this machine. Without network namespaces, tests share ports and run one by one.

    With `in_order`, a free worker takes the next test, so that the long ones can come first.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each worker would compile every test again
    if alone.is_alone() or alone.is_possible():
        os.environ.setdefault("PI_TEST_PATIENCE", "3")
        workers = alone.workers(min(WORKERS_PER_CORE * (os.cpu_count() or 1), MOST_WORKERS))
        return [*workers, "--dist", "load", "--maxschedchunk", "1"] if in_order else workers
    print("tests run one at a time: this user cannot create network namespaces", flush=True)
    return []


def run(chosen: list[str], workers: list[str], repeat: bool = True) -> int:
    """Run pytest on the chosen tests, with options for its workers. Return its exit code.

    With `repeat`, the tests that failed run once more, one at a time, if they are few: a test that waits for real
    processes can fail because the machine is busy. Their names are printed.
    """
    code = _pytest("--cache-clear", *workers, *chosen)
    failed = sorted(json.loads(FAILED.read_text("utf-8"))) if code == 1 and FAILED.exists() else []
    if not (repeat and 0 < len(failed) <= MOST_REPEATED):
        return code
    print("These tests failed and run once more, one at a time:", *failed, sep="\n  ", flush=True)
    return _pytest("--last-failed", *(alone.workers(1) if workers else []), *chosen)


def _pytest(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *words], cwd=ROOT).returncode


def quick() -> list[str]:
    """Return the tests to run first after a change: the SSH tests of changed files, then all unit tests."""
    files: set[Path] = set()
    shared = []
    for name in changed():
        found = ssh_tests(name)
        files |= found
        if not found and name.startswith(SHARED):
            shared.append(name)
    chosen = [str(path.relative_to(ROOT)) for path in sorted(files)]
    if shared:
        print(f"many tests depend on {', '.join(shared)}: a selection runs now, `make test` is needed", flush=True)
        chosen += [case for case in core() if case.partition("::")[0] not in chosen]
    return [*chosen, "tests/unit"]


def changed() -> list[str]:
    """Return the files that this branch has changed, or on main those changed since the last commit."""
    base = _git("merge-base", "HEAD", "main") or _git("rev-parse", "HEAD")
    return sorted({*_git("diff", "--name-only", *base), *_git("ls-files", "--others", "--exclude-standard")})


def ssh_tests(name: str) -> set[Path]:
    """Return the SSH tests of a file by name: for `start`, test_start.py and test_start_failures.py."""
    path = Path(name)
    if path.parent == SSH.relative_to(ROOT):
        return {ROOT / path} if path.name.startswith("test_") and (ROOT / path).exists() else set()
    if path.parts[0] != "pi":
        return set()
    words = [SERVED_BY.get(path.stem, path.stem), *VERB_FOLDERS.intersection(path.parts)]
    return {test for word in words for test in [*SSH.glob(f"test_{word}.py"), *SSH.glob(f"test_{word}_*.py")]}


def core() -> list[str]:
    """Return the SSH tests marked `core`: a few for each verb and each kind of fault."""
    return [
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in sorted(SSH.glob("test_*.py"))
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and "pytest.mark.core" in map(ast.unparse, node.decorator_list)
    ]


@contextmanager
def clocked() -> Iterator[None]:
    """Print the wall time and the CPU time of the block, also if it fails."""
    began, used = time.monotonic(), _cpu_s()
    try:
        yield
    finally:
        print(f"took {time.monotonic() - began:.0f} s, {_cpu_s() - used:.0f} CPU seconds", flush=True)


def _cpu_s() -> float:
    """Return the CPU seconds of ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _git(*words: str) -> list[str]:
    """Return the lines that git prints, or none if it fails."""
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.splitlines()
