"""Which unit tests depend on a file: those that import it, directly or through other modules."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from pi.fabric_tasks import VERBS

ROOT = Path(__file__).parents[1]
UNIT = "tests/unit"

ALWAYS = [
    "tests/unit/planning/test_variables.py",
    "tests/unit/test_declaration.py",
    "tests/unit/test_docs.py",
    "tests/unit/test_fault_table.py",
    "tests/unit/test_house.py",
    "tests/unit/test_json.py",
    "tests/unit/test_messages.py",
    "tests/unit/test_suite.py",
]
"""They read the source, the tests over SSH or the docs as text, or run pi."""

UNREAD = ("tests/ssh/", "tests/e2e/", "docs/")
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
    needed = {path: imports(path) for path in _sources()}
    reached = {module_of(Path(name)) for name in names}
    while more := {module_of(path) for path, modules in needed.items() if modules & reached} - reached:
        reached |= more
    tests = (path for path in needed if path.is_relative_to(UNIT) and path.match("test_*.py"))
    return sorted({*(str(path) for path in tests if module_of(path) in reached), *ALWAYS})


def module_of(path: Path) -> str:
    """Return the module of a file, by its path in the checkout."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Return the modules that a file needs to run, and names that may be modules.

    `pi/__init__.py`, which every file imports, itself imports something only if it is asked for it.
    """
    if path == Path("pi/__init__.py"):
        return set()
    found = set(_imported(ast.parse((ROOT / path).read_text("utf-8"))))
    if found & ALL_VERBS:
        found |= {"pi.cli.program", *(f"pi.fabric_tasks.{place.partition(':')[0]}" for place in VERBS.values())}
    if path.parts[0] == "tests":
        found |= {module_of(parent / "conftest.py") for parent in path.parents if parent != Path()}
    return found


def names_of(node: ast.AST) -> Iterator[str]:
    """Yield the modules of an import statement, and names that may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    yield from names_of(node)
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def _sources() -> list[Path]:
    found = [path for folder in ("pi", "chores", "tests") for path in (ROOT / folder).rglob("*.py")]
    return [Path("tasks.py"), *(path.relative_to(ROOT) for path in found)]
