"""The arrows of ARCHITECTURE.md: who may import whom, and what is heavy only when it is needed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PI = Path(__file__).parents[2] / "pi"
HEAVY = {"fabric", "paramiko", "openai", "requests", "jinja2", "tabulate"}
PURE = {
    "catalog", "catalog_text", "cpu_plans", "endpoint", "errors", "estimate", "events", "failures", "gpus", "hardware",
    "hub", "json_text", "mounts", "offers", "placement", "planner", "plans", "pods_json", "refusals", "target", "text",
    "venvs", "vllm",
}  # fmt: skip


def rooms() -> list[str]:
    """Every module of pi, such as "state" or "pod.start"."""
    paths = (path for path in PI.rglob("*.py") if "templates" not in path.parts)
    return sorted(".".join(path.relative_to(PI).with_suffix("").parts).removesuffix(".__init__") for path in paths)


def tree_of(room: str) -> ast.Module:
    path = PI.joinpath(*room.split(".")).with_suffix(".py")
    return ast.parse((path if path.exists() else path.with_suffix("") / "__init__.py").read_text())


def imports(room: str, *, at_import: bool = False) -> Iterator[str]:
    """Modules that a room imports anywhere, or (`at_import`) as soon as it is imported itself."""
    tree = tree_of(room)
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", [room for room in rooms() if not room.startswith("fabric_tasks")])
def test_no_room_below_the_tasks_imports_a_task(room: str) -> None:
    allowed = {"program", "__init__"}
    assert room in allowed or not any(name.startswith("pi.fabric_tasks") for name in imports(room))


@pytest.mark.parametrize("room", sorted(PURE))
def test_a_pure_room_imports_neither_invoke_nor_anything_heavy_nor_a_room_that_acts(room: str) -> None:
    found = {name.partition(".")[0] for name in imports(room)}
    assert not found & (HEAVY - {"requests"} | {"invoke", "socket", "subprocess"})
    assert "requests" not in found or room == "endpoint"
    acting = {"pi.remote", "pi.calls", "pi.connection", "pi.program", "pi.screen", "pi.pod", "pi.prompt"}
    assert not acting & set(imports(room))


@pytest.mark.parametrize("room", [room for room in rooms() if room.startswith("pod.")])
def test_what_runs_on_a_pod_needs_the_standard_library_alone(room: str) -> None:
    for name in imports(room):
        first = name.partition(".")[0]
        assert first in sys.stdlib_module_names or name.startswith("pi.pod"), name


@pytest.mark.parametrize("room", [room for room in rooms() if not room.startswith("pod.")])
def test_text_files_are_read_and_written_as_utf_8_whatever_the_terminal_is(room: str) -> None:
    """On a pod, pi's Python is started with `-X utf8`."""
    for node in ast.walk(tree_of(room)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {keyword.arg for keyword in node.keywords}
            texts = {"read_text": node.args[:1], "write_text": node.args[1:2]}
            assert node.func.attr not in texts or texts[node.func.attr] or "encoding" in named, ast.unparse(node)


def test_only_the_room_of_the_connection_imports_fabrics_connection() -> None:
    assert [room for room in rooms() if "fabric.Connection" in imports(room)] == ["connection"]


@pytest.mark.parametrize("room", [room for room in rooms() if room not in ("hostkeys", "login")])
def test_nothing_heavy_is_imported_before_it_is_needed(room: str) -> None:
    """`hostkeys` and `login` are themselves imported only by functions that connect."""
    assert not {name.partition(".")[0] for name in imports(room, at_import=True)} & HEAVY


@pytest.mark.parametrize(
    "words", [["pods"], ["--help"], ["--version"], ["pods", "active", "x"], ["--complete", "--", ""]]
)
def test_verbs_that_contact_no_pod_load_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    pods = {"x": {"ssh": "ssh root@192.0.2.1", "gpus": [], "models": {}}}
    (tmp_path / "pods.json").write_text(json.dumps({"pods": pods}))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", Path(sys.executable).parent / "pi", *words],
        env={**os.environ, "PI_CONFIG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "invoke" in loaded
    assert not loaded & HEAVY
