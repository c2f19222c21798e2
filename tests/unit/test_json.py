"""docs/json.md and the JSON of verbs that contact no pod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError, validate

from chores.json_schemas import BLOCK, PAGE, page, shown
from pi.cli.help import typed
from pi.cli.program import program
from pi.errors import UnreachableError
from pi.fabric_tasks import VERBS, task_named
from pi.fabric_tasks.flags import flags_of
from pi.pods.types import Pod
from pi.steps.group import Asked
from pi.steps.listing import Seen, as_json

PODS = {
    "box": {
        "ssh": "ssh h",
        "gpus": [{"id": 0, "name": "L4", "memory": "24GB"}],
        "models": {"q": {"model": "a/b", "port": 8001, "gpu": "0", "pid": 9}},
    },
    "lab": {"ssh": "ssh l"},
}


def test_docs_show_the_schemas_of_the_types() -> None:
    assert PAGE.read_text("utf-8") == page(), "if the new schemas are right: inv docs"


@pytest.mark.parametrize("name", [block[2] for block in BLOCK.finditer(PAGE.read_text("utf-8"))])
def test_schemas_are_valid_and_reject_an_empty_object(name: str) -> None:
    Draft202012Validator.check_schema(shown(name))
    with pytest.raises(ValidationError):
        validate({}, shown(name))
    assert "dict(" not in json.dumps(shown(name)), "a type without a docstring shows that of dict"


@pytest.mark.parametrize(
    "name", [name for name in VERBS if "--json" in {f.name for f in flags_of(task_named(name).options)}]
)
def test_docs_name_every_verb_with_json(name: str) -> None:
    assert f"| `pi {typed(name)} " in PAGE.read_text("utf-8")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    program().run(["pi", *words])
    return json.loads(capsys.readouterr().out)


def test_pods_and_conversations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    validate(printed(capsys, "pods", "--json"), shown("PodsJson"))
    (tmp_path / "pods.json").write_text(json.dumps({"pods": PODS, "active": "box"}))
    document = printed(capsys, "pods", "--json")
    validate(document, shown("PodsJson"))
    assert isinstance(document, dict)
    assert [(pod["name"], pod["active"], pod["models"]) for pod in document["pods"]] == [
        ("box", True, ["q"]),
        ("lab", False, []),
    ]
    validate(printed(capsys, "prompt", "--sessions", "--json"), shown("SessionsJson"))


def test_a_pod_that_does_not_answer_has_an_error() -> None:
    asked: list[Asked[Seen]] = [Asked(Pod("box", "ssh h"), error=UnreachableError("x-y", "cannot", "try"))]
    document = as_json(asked)
    validate(document, shown("ListJson"))
    assert document["pods"][0]["error"] == {"id": "x-y", "message": "cannot", "hint": "try", "exit_code": 3}
