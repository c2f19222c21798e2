"""The imports that ARCHITECTURE.md allows, and late imports of heavy packages."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from chores.dependents import names_of
from pi.fabric_tasks import VERBS

PI = Path(__file__).parents[2] / "pi"

HEAVY = {
    "fabric",
    "httpcore2",
    "httpx2",
    "jinja2",
    "openai",
    "paramiko",
    "plotext",
    "prompt_toolkit",
    "requests",
    "rich",
    "starlette",
    "tabulate",
    "uvicorn",
}

GROUND = {"affinity", "errors", "text", "config", "redaction", "screen", "faults", "model_id", "addresses", "web"}

ARROWS = {
    "cli": "fabric_tasks pods ground",
    "fabric_tasks": "door steps prompt calls planning setup clients pods vllm ssh ground",
    "door": "steps calls pods ssh on_pod ground",
    "steps": "calls planning clients pods vllm ssh ground",
    "prompt": "ground",
    "calls": "planning pods vllm ssh on_pod ground",
    "planning": "pods vllm ground",
    "setup": "ground",
    "clients": "",
    "pods": "on_pod ground",
    "vllm": "ground",
    "ssh": "on_pod ground",
    "ground": "on_pod",
    "on_pod": "",
}
"""The other rooms that each room may import."""

PURE = {"planning", "vllm", "setup", "clients", "prompt.events", "pods.types", "pods.file_format", "pods.json_place", "pods.gpus",
        "ssh.target", "ssh.options", "calls.events", "text", "errors", "model_id"}  # fmt: skip
"""Rooms and modules that only compute: no process, no Invoke, nothing heavy."""

LATE = {
    "web": {"requests"},
    "calls.templates": {"jinja2"},
    "cli.entry": {"pi.cli"},
    "cli.program": {"pi.cli"},
    "fabric_tasks.pods": {"pi.steps"},
    "prompt.chat": {"pi.prompt.line_editor"},
    "fabric_tasks.door": {"pi.door"},
    "prompt.client": {"pi.prompt.sdk"},
    "fabric_tasks.bench": {"pi.steps.bench_plot"},
    "fabric_tasks.top": {"pi.steps.top_screen"},
    "screen": {"tabulate"},
    "steps.listing": {"pi.calls.status"},
    "steps.spending": {"pi.steps"},
    "steps.where": {"pi.ssh.connection"},
    "": {"pi.fabric_tasks", "pi.steps"},
}
"""Imports inside functions: heavy packages, and the tasks for fabfiles."""


IMPORTED_LATE = (
    *("door.app", "door.house", "door.lines", "door.passing", "door.server"),
    *("prompt.line_editor", "prompt.sdk", "prompt.transport"),
    *("steps.bench_plot", "steps.top_screen"),
)
"""Modules that import heavy packages at the top. They are imported inside functions."""


def modules() -> list[str]:
    """Return the modules of pi, such as "pods.state"; the package itself is ""."""
    paths = (path for path in PI.rglob("*.py") if "templates" not in path.parts)
    names = (".".join(path.relative_to(PI).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix("__init__").removesuffix(".") for name in names)


MODULES = modules()


@cache
def tree_of(module: str) -> ast.Module:
    path = PI.joinpath(*module.split(".")) if module else PI
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


@cache
def imports(module: str) -> set[str]:
    return {name for node in ast.walk(tree_of(module)) for name in names_of(node)}


@cache
def late_imports(module: str) -> set[str]:
    """Return the modules that functions import."""
    functions = (node for node in ast.walk(tree_of(module)) if isinstance(node, ast.FunctionDef))
    nodes = (node for function in functions for node in ast.walk(function))
    return {next(names_of(node)) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)}


@cache
def own_imports(module: str) -> set[str]:
    """Return the modules of pi that a module imports."""
    own = {name.removeprefix("pi.") for name in imports(module) if name.startswith("pi.")}
    return (own & set(MODULES)) - {module}


def room_of(module: str) -> str:
    first = module.partition(".")[0]
    return "ground" if first in GROUND else first


def test_a_module_imports_only_the_rooms_below_its_own() -> None:
    for module in (module for module in MODULES if module not in ("", "__main__")):
        room = room_of(module)
        assert {room_of(name) for name in own_imports(module)} <= {room, *ARROWS[room].split()}, module


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: own_imports(module) for module in MODULES if module}).prepare()


def test_no_verb_imports_another() -> None:
    verbs = {f"fabric_tasks.{place.partition(':')[0]}" for place in VERBS.values()}
    for module in (module for module in MODULES if module.startswith("fabric_tasks.")):
        assert not own_imports(module) & verbs, module


def test_a_verb_has_fewer_than_150_lines() -> None:
    for place in VERBS.values():
        file = PI / "fabric_tasks" / f"{place.partition(':')[0]}.py"
        assert len(file.read_text().splitlines()) < 150, place


def test_a_pure_module_starts_no_process_and_loads_nothing_heavy() -> None:
    for module in (name for name in MODULES if {name, room_of(name)} & PURE):
        found = {name.partition(".")[0] for name in imports(module)}
        assert not found & (HEAVY | {"invoke", "subprocess"}), module


def test_at_most_fourteen_modules_are_outside_the_rooms() -> None:
    assert len([name for name in MODULES if "." not in name and not (PI / name).is_dir()]) <= 14


def test_on_pod_imports_only_the_standard_library() -> None:
    for name in (name for module in MODULES if room_of(module) == "on_pod" for name in imports(module)):
        assert name.partition(".")[0] in sys.stdlib_module_names or name.startswith("pi.on_pod"), name


def test_text_files_are_opened_as_utf_8() -> None:
    """On pods, pi starts Python with `-X utf8`."""
    for node in (node for name in MODULES if room_of(name) != "on_pod" for node in ast.walk(tree_of(name))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {keyword.arg for keyword in node.keywords}
            texts = {"read_text": node.args[:1], "write_text": node.args[1:2]}
            assert node.func.attr not in texts or texts[node.func.attr] or "encoding" in named, ast.unparse(node)


def test_only_the_ssh_room_imports_fabrics_connection() -> None:
    assert [name for name in MODULES if "fabric.Connection" in imports(name)] == ["ssh.connection"]


COMMAND_FOR_A_MODEL = r"\bpi (stop|restart|logs|wait|explain|scale|prompt|bench|env) \{"

ON_ITS_POD = r"--pod|-p |\{flag\}|\{elsewhere\}|\{on_pod\}|flag_for\("

WITHOUT_POD = {"steps.ranks", "fabric_tasks.start_options"}
"""Modules that look for such a command in a text, or that read a table which names no pod."""


def test_a_printed_command_for_a_model_leads_to_its_pod() -> None:
    """The active pod may have a model of the same name. The planner and the calls know no names of pods."""
    for module in (name for name in MODULES if room_of(name) in ("steps", "fabric_tasks") and name not in WITHOUT_POD):
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.JoinedStr) and re.search(COMMAND_FOR_A_MODEL, text := ast.unparse(node)):
                assert re.search(ON_ITS_POD, text), f"{module}: {text}"


def test_only_heavy_imports_are_inside_functions() -> None:
    for module in (name for name in MODULES if room_of(name) != "ssh"):
        assert late_imports(module) <= LATE.get(module, set()), module


def test_heavy_packages_are_imported_late() -> None:
    """Only a function that connects imports `ssh.connection`, and only one that opens the door imports its server."""
    for module in (name for name in MODULES if name != "ssh.connection"):
        at_top = {name.partition(".")[0] for node in tree_of(module).body for name in names_of(node)}
        assert not at_top & HEAVY or module in IMPORTED_LATE, module


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


def test_pi_pods_loads_only_the_rooms_it_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", Path(sys.executable).parent / "pi", "pods"],
        env={**os.environ, "PI_CONFIG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    names = {line.rpartition("|")[2].strip().removeprefix("pi.") for line in done.stderr.splitlines() if "| " in line}
    loaded = {room_of(name) for name in names & set(MODULES)}
    assert loaded <= {"", "cli", "fabric_tasks", "steps", "pods", "ground", "on_pod"}


def test_a_verb_that_contacts_a_pod_loads_nothing_of_fabrics_own_transport(tmp_path: Path) -> None:
    pods = {"x": {"ssh": "ssh -p 1 root@127.0.0.1", "gpus": [], "models": {}}}
    (tmp_path / "pods.json").write_text(json.dumps({"pods": pods, "active": "x"}))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", Path(sys.executable).parent / "pi", "list"],
        env={**os.environ, "PI_CONFIG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "| " in line}
    assert "fabric.connection" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("cryptography", "nacl", "bcrypt")}
    assert "paramiko.transport" not in loaded
