"""Which unit tests depend on a file: those that import it, directly or through other modules."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from pi.fabric_tasks import VERBS

ROOT = Path(__file__).parents[1]
UNIT = "tests/unit"

ALWAYS = [f"{UNIT}/test_{name}.py" for name in ("docs", "house", "json", "messages")]
"""They read the source as text, or run pi."""

UNREAD = ("tests/ssh/", "tests/e2e/", "docs/", ".ci/")
"""Folders that no unit test but these reads."""

ALL_VERBS = {"tests.rig.command", *(f"pi.fabric_tasks.{name}" for name in ("VERBS", "namespace", "task_named"))}
"""Who imports one of these may run any verb, by its name."""


def unit_tests(changed: Iterable[str]) -> list[str]:
    """Return the unit tests that a change of these files may break; the whole folder if imports do not tell.

    Modules that are imported for their types only do not count: mypy reads them. Nor do programs that pi sends to a
    pod as text, which the tests over SSH run.
    """
    names = [name for name in changed if not name.startswith(UNREAD) and not name.endswith(".md")]
    if any(not name.endswith(".py") or "templates" in name for name in names):
        return [UNIT]
    graph = {module_of(path): imports(path) for path in _sources()}
    reached = {module_of(Path(name)) for name in names}
    while more := {module for module, used in graph.items() if used & reached} - reached:
        reached |= more
    tests = {str(path) for path in _sources() if path.match("test_*.py") and module_of(path) in reached}
    return sorted({*(test for test in tests if test.startswith(UNIT)), *ALWAYS})


def module_of(path: Path) -> str:
    """Return the module of a file, by its path in the checkout."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Return the modules that a file needs to run, and names that may be modules."""
    found = set(_imported(ast.parse((ROOT / path).read_text("utf-8")))) if path != Path("pi/__init__.py") else set()
    if found & ALL_VERBS:
        found |= {"pi.cli.program", *_verbs()}
    if path.parts[0] == "tests":
        found |= {module_of(parent / "conftest.py") for parent in path.parents if parent != Path()}
    return found - {module_of(path)}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield str(node.module)
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def _verbs() -> set[str]:
    return {f"pi.fabric_tasks.{place.partition(':')[0]}" for place in VERBS.values()}


def _sources() -> list[Path]:
    found = [path for folder in ("pi", "chores", "tests") for path in (ROOT / folder).rglob("*.py")]
    return [Path("tasks.py"), *(path.relative_to(ROOT) for path in found)]
