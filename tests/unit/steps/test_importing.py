"""Rented machines from the JSON of runpodctl and vastai, as pods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pi.errors import InputError, RemoteError
from pi.pods.types import Pod, State
from pi.steps import importing, providers
from pi.steps.providers import Rented

CASES = Path(__file__).parents[2] / "fixtures" / "providers"

Tool = Callable[[str, str], None]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Makes a provider's tool: a shell script."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def make(name: str, script: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


def test_the_running_pods_of_runpodctl(tool: Tool) -> None:
    tool("runpodctl", f'case "$2" in list) cat {CASES}/runpod_list.json;; get) cat {CASES}/runpod_get_"$3".json;; esac')
    first, second = providers.runpod()
    assert first == Rented("8y5rumuyb50m78", "my-h100", "ssh root@213.173.108.12 -p 17445", 2.69)
    assert (second.name, second.ssh, second.problem[:26]) == ("p2k3no7d9x", "", "it has no public port 22: ")


def test_the_running_instances_of_vastai(tool: Tool) -> None:
    tool("vastai", f"cat {CASES}/vast_instances.json")
    direct, proxied, jupyter = providers.vast()
    assert direct == Rented("28431120", "train-box", "ssh root@142.214.185.187 -p 20544", 0.4034)
    assert (proxied.name, proxied.ssh) == ("vast-28431121", "ssh root@ssh5.vast.ai -p 41111")
    assert jupyter.ssh == "ssh root@ssh4.vast.ai -p 31235"


HOSTILE: list[Any] = [
    "[1, null, {}]",
    '[{"id": "x;id", "name": "$(id)", "actual_status": "running", "ssh_host": "-oProxyCommand=id", "ssh_port": 22}]',
    '[{"id": 1, "actual_status": "running", "ssh_host": "h", "ssh_port": 99999, "ports": {"22/tcp": [[]]}}]',
]


@pytest.mark.parametrize("answer", HOSTILE)
def test_hostile_answers_register_nothing(tool: Tool, tmp_path: Path, answer: str) -> None:
    (tmp_path / "answer").write_text(answer)
    for name in ("vastai", "runpodctl"):
        tool(name, f"cat {tmp_path}/answer")
    for machine in [*providers.vast(), *providers.runpod()]:
        assert not machine.ssh and machine.problem


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ("null", []),
        ("[]", []),
        ('{"instances": [{"id": 5, "actual_status": "running"}], "success": true}', ["5"]),
        ("{}", None),
        ('"none"', None),
        ('{"a": [], "b": []}', None),
    ],
)
def test_the_forms_of_a_list(tool: Tool, answer: str, ids: list[str] | None) -> None:
    tool("vastai", f"printf %s '{answer}'")
    if ids is None:
        with pytest.raises(RemoteError, match="printed no list of machines"):
            providers.vast()
    else:
        assert [each.id for each in providers.vast()] == ids


@pytest.mark.parametrize("script", ["echo '{}' && exit 1", "echo not json", "echo 'no api key' >&2; exit 1"])
def test_a_tool_that_fails_is_quoted(tool: Tool, script: str) -> None:
    tool("vastai", script)
    with pytest.raises(RemoteError, match="vastai show instances --raw ended with"):
        providers.vast()


def test_a_missing_tool_is_named(tool: Tool) -> None:
    with pytest.raises(InputError, match="vastai is not installed"):
        providers.vast()


def rented(id: str, name: str, host: str, price: float | None = 2.0) -> Rented:
    return Rented(id, name, f"ssh root@{host} -p 22", price)


def test_a_machine_at_the_address_of_another_one_is_not_taken_for_it() -> None:
    saved = State({"old": Pod("old", "ssh root@1.1.1.1 -p 22", price=1.0, extra={"provider": "vast 5"})}, "old")
    [found] = importing.plan(saved, "vast", [rented("6", "new", "1.1.1.1")])
    assert found.pod is None and "it has the address of old, another machine" in found.sentence


def test_an_import_adds_new_pods_and_changes_no_address() -> None:
    saved = State(
        {
            "old": Pod("old", "ssh root@1.1.1.1 -p 22", price=1.0),
            "moved": Pod("moved", "ssh root@2.2.2.2 -p 22", extra={"provider": "vast 7"}),
            "same": Pod("same", "ssh root@3.3.3.3 -p 22", price=2.0, extra={"provider": "vast 8"}),
        },
        "old",
    )
    machines = [
        rented("5", "x", "1.1.1.1"),
        rented("7", "x", "9.9.9.9"),
        rented("8", "x", "3.3.3.3"),
        rented("9", "new", "4.4.4.4"),
        rented("10", "new", "5.5.5.5"),
        Rented("11", "young", problem="it has no SSH port yet"),
    ]
    found = importing.plan(saved, "vast", machines)
    assert [each.pod.name if each.pod else None for each in found] == ["old", None, None, "new", "new-10", None]
    assert found[0].pod and (found[0].pod.ssh, found[0].pod.price) == ("ssh root@1.1.1.1 -p 22", 2.0)
    assert "pi pods address moved 'ssh root@9.9.9.9 -p 22'" in found[1].sentence
    assert found[2].sentence == "same: already registered"
    assert found[5].sentence == "young: not registered: it has no SSH port yet"
