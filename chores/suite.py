"""The runs of `inv test`: parallel workers, each with its own network, and the selection for --quick."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from tests.rig import alone

ROOT = Path(__file__).parents[1]
SSH = ROOT / "tests" / "ssh"

SSH_WORKERS = 4
"""For each core. Most tests over SSH wait for processes and use a fifth of a core."""

UNIT_WORKERS = 1
"""For each core, beside those."""

MOST_WORKERS = 24

MOST_REPEATED = 5
"""If more tests fail, the machine's load is not the cause."""

SERVED_BY = {"status": "list", "survey": "plan", "planner": "plan", "journal": "interrupt", "follow": "interrupt"}
"""Modules whose SSH tests have another name."""

VERB_FOLDERS = {"prompt", "setup"}
"""Folders that belong to one verb."""

SHARED = ("pi/", "tests/rig/", "tests/ssh/conftest.py", "setup.cfg")


def runs(ssh: list[str], unit: list[str], in_order: bool = False) -> list[list[str]]:
    """Return pytest's words for runs at the same time: these tests over SSH, and beside them these unit tests.

    Each worker of a run collects all its tests, and of unit tests there are many. Without network namespaces there is
    one run.
    """
    if not _is_parallel():
        return [[*options(), *ssh, *unit]]
    beside = [*options(UNIT_WORKERS), *unit]
    return [[*options(in_order=in_order), *ssh], beside] if ssh else [beside]


def options(workers_per_core: int = SSH_WORKERS, in_order: bool = False) -> list[str]:
    """Return pytest's options for this machine. Without network namespaces, tests share ports and run one by one.

    With `in_order`, a free worker takes the next test, so that the long ones can come first.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each worker would compile every test again
    if _is_parallel():
        os.environ.setdefault("PI_TEST_PATIENCE", "3")
        workers = alone.workers(min(workers_per_core * (os.cpu_count() or 1), MOST_WORKERS))
        return [*workers, "--dist", "load", "--maxschedchunk", "1"] if in_order else workers
    print("tests run one at a time: this user cannot create network namespaces", flush=True)
    return []


@cache
def _is_parallel() -> bool:
    return alone.is_alone() or alone.is_possible()


def run(runs: list[list[str]], beside: list[list[str]] | None = None, repeat: bool = True) -> int:
    """Run pytest with the words of each run, at the same time, and other commands. Return the worst exit code.

    With `repeat`, the tests that failed run once more, one at a time, if they are few: a test that waits for real
    processes can fail because the machine is busy. Their names are printed.
    """
    commands = [_pytest(number, "--cache-clear", *words) for number, words in enumerate(runs)]
    codes = together([*commands, *(beside or [])])
    failed = {number: _failed(number) for number in range(len(runs)) if codes[number] == 1}
    names = [name for names in failed.values() for name in names]
    if repeat and 0 < len(names) <= MOST_REPEATED:
        print("These tests failed and run once more, one at a time:", *names, sep="\n  ", flush=True)
        for number in failed:
            python, *words = _pytest(number, "--last-failed", *runs[number], "-n0")
            network = [str(Path(alone.__file__))] if _is_parallel() else []
            codes[number] = subprocess.run([python, *network, *words], cwd=ROOT).returncode
    return max(codes)


def together(commands: list[list[str]]) -> list[int]:
    """Run commands at the same time and return their exit codes. The first one prints at once, the others after it."""
    with ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in commands[1:]]
        running = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            for command, output in zip(commands, [None, *outputs], strict=True)
        ]
        codes = [process.wait() for process in running]
        for output in outputs:
            output.seek(0)
            print(output.read(), end="", flush=True)
    return codes


def _pytest(number: int, *words: str) -> list[str]:
    """Return the command of a run; each keeps the names of its failed tests in a folder of its own."""
    return [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={_cache(number)}", *words]


def _cache(number: int) -> Path:
    return ROOT / ".pytest_cache" / f"run{number}"


def _failed(number: int) -> list[str]:
    path = _cache(number) / "v" / "cache" / "lastfailed"
    return sorted(json.loads(path.read_text("utf-8"))) if path.exists() else []


def quick(changed: list[str]) -> list[str]:
    """Return the SSH tests to run after a change: those of changed files, and a selection if a shared room changed."""
    files: set[Path] = set()
    shared = []
    for name in changed:
        found = ssh_tests(name)
        files |= found
        if not found and name.startswith(SHARED):
            shared.append(name)
    chosen = [str(path.relative_to(ROOT)) for path in sorted(files)]
    if shared:
        print(f"many tests depend on {', '.join(shared)}: a selection runs now, `make test` is needed", flush=True)
        chosen += [case for case in core() if case.partition("::")[0] not in chosen]
    return chosen


def changed_files() -> list[str]:
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
