"""Replicas on several pods: how many each pod has, and which options each keeps."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pi.calls import network
from pi.calls.network import Address, Passage, PodNetwork
from pi.errors import InputError, RemoteError, UnreachableError
from pi.fabric_tasks.start_options import StartOptions
from pi.pods import state
from pi.pods.types import Deployment, Pod, State
from pi.steps import group, reconcile, replicas, restarting, spread, together
from pi.steps.group import Asked
from pi.steps.members import Joined, joined
from pi.steps.starting import Start


@pytest.mark.parametrize(
    ("number", "pods", "expected"),
    [(4, "a b", [2, 2]), (3, "a b", [2, 1]), (5, "a b c", [2, 2, 1]), (2, "a b", [1, 1])],
)
def test_the_first_pods_get_one_more(number: int, pods: str, expected: list[int]) -> None:
    assert list(spread.shares(number, pods.split()).values()) == expected


def test_no_pod_is_left_without_a_replica() -> None:
    with pytest.raises(InputError, match="1 replica cannot be on 2 pods"):
        spread.shares(1, ["a", "b"])


def test_the_first_pod_keeps_the_options_of_all_and_the_others_their_own() -> None:
    given = StartOptions(model="org/m", name="m", replicas="3", across="a,b", address=("b=10.0.0.7",))
    wanted = given.start()
    head, other = spread.on_pod(wanted, 2, True), spread.on_pod(wanted, 1, False)
    assert (head.request.replicas, other.request.replicas) == (2, 1) and head.across is other.across is None
    assert head.options == given.table() and head.options["replicas"] == "3"
    assert other.options == {"model": "org/m", "replicas": "1"}


def test_the_first_pod_knows_who_else_has_replicas() -> None:
    options = {"model": "org/m", "replicas": "2", "across": "a,b,c"}
    first = Pod("a", "local", models={"m": Deployment("m", "org/m", 8001, (), 7, options=options)})
    second = Pod("b", "local", models={"m": Deployment("m", "org/m", 8001, (), 8)})
    state = State({"a": first, "b": second})
    assert spread.others_with(state, first, "m") == ["b"] and spread.others_with(state, second, "m") == []


def connection(pod: str) -> Any:
    return pod


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """The links that pi cuts, in a pods.json where `a` passes requests for `m` on to `b` and `c`."""
    model = Deployment("m", "org/m", 8001, (), 7, instance="d81ea378b66584d1", elsewhere=("b", "c"))
    pods = {"a": Pod("a", "local", models={"m": model}), "b": Pod("b", "ssh b"), "c": Pod("c", "ssh c")}
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    state.change(lambda before: State(pods))
    cut = list[tuple[str, str, str]]()
    monkeypatch.setattr(spread, "unlink_pod", lambda head, name, pod: cut.append((head, name, pod)))
    monkeypatch.setattr(
        group, "ask", lambda c, chosen, work: [Asked(pod, work(pod, "to " + pod.name)) for pod in chosen.pods]
    )
    return cut


def test_no_pod_passes_requests_on_to_what_pi_has_stopped(linked: list[tuple[str, str, str]]) -> None:
    assert spread.unlink(None, {"b": {"other"}, "a": {"m"}}) == []
    assert linked == [] and state.load().pods["a"].models["m"].elsewhere == ("b", "c")
    assert spread.unlink(None, {"b": {"m", "m.1"}}) == ["a"]
    assert linked == [("to a", "m", "b")] and state.load().pods["a"].models["m"].elsewhere == ("c",)


def test_a_pod_out_of_reach_that_may_pass_requests_on_is_named(
    linked: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = UnreachableError("unreachable", "a does not answer")
    monkeypatch.setattr(group, "ask", lambda c, chosen, work: [Asked(pod, error=error) for pod in chosen.pods])
    spread.unlink(None, {"b": {"m"}})
    assert "a may still pass requests for m on to b" in capsys.readouterr().err
    assert state.load().pods["a"].models["m"].elsewhere == ("b", "c")


def test_scale_keeps_the_total_on_the_first_pod_and_starts_what_a_pod_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()
    a, b, c = (Pod(name, f"ssh {name}") for name in "abc")
    members = [Joined(pod, connection(pod.name)) for pod in (a, b, c)]
    monkeypatch.setattr(spread, "joined", lambda *_: nullcontext(members))
    monkeypatch.setattr(together, "others", lambda *_: [b, c])
    monkeypatch.setattr(spread, "read_status", lambda to: SimpleNamespace(named={"m": to}.get if to != "b" else {}.get))
    monkeypatch.setattr(spread, "_reached", lambda *_: {})
    monkeypatch.setattr(spread, "_link", lambda members, name, reached, options: done.append(f"link {options}"))

    def scale_here(pod: Pod, connection: Any, wanted: Start, number: int, key: str) -> None:
        done.append(f"scale {pod.name} to {number} of {wanted.options['replicas']}")

    def start_here(pod: Pod, connection: Any, wanted: Start, key: str) -> Any:
        done.append(f"start {wanted.request.replicas} of {wanted.options['replicas']} on {pod.name}")

    wanted = StartOptions(model="org/m", name="m", replicas="3", across="a,b,c").start()
    assert wanted.across
    spread.scale(a, connection("a"), wanted, wanted.across, 7, "k", scale_here, start_here)
    table = {"model": "org/m", "replicas": "7", "across": "a,b,c"}
    assert done == ["scale a to 3 of 7", "start 2 of 2 on b", "scale c to 2 of 2", f"link {table}"]


def test_scale_on_one_pod_keeps_the_options_that_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list[Any]()
    endpoint = SimpleNamespace(deployment=Deployment("m", "org/m", 8001, (), 7), servers={}, state="running")
    monkeypatch.setattr(replicas, "read_status", lambda _: SimpleNamespace(named=lambda _: endpoint, found=()))
    monkeypatch.setattr(replicas, "keep_options", lambda connection, name, options: kept.append(options["replicas"]))
    monkeypatch.setattr(reconcile, "remember", lambda pod, model: kept.append(model.options["replicas"]))
    monkeypatch.setattr(replicas, "_add", lambda *_: None)

    def spread_scale(*given: Any) -> None:
        pod, connection, wanted, _, _, key, scale_here, _ = given
        scale_here(pod, connection, spread.on_pod(wanted, 2, True), 2, key)

    monkeypatch.setattr(spread, "scale", spread_scale)
    wanted = StartOptions(model="org/m", name="m", replicas="4", across="a,b").start()
    replicas.scale(Pod("a", "ssh a"), connection("a"), wanted, 4, "k")
    assert kept == ["4", "4"]
    alone = StartOptions(model="org/m", name="m", replicas="4").start()
    replicas.scale(Pod("a", "ssh a"), connection("a"), alone, 2, "k")
    assert kept[2:] == ["2", "2"]


A, B = (Joined(Pod(name, f"ssh {name}"), connection(name)) for name in "ab")


def test_only_ipv4_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a": ["fd00::1", "10.0.0.1"], "b": ["fd00::2"]}
    tried = list[tuple[str, str]]()

    def look(pod: str) -> PodNetwork:
        return PodNetwork(tuple(Address(each, "eth0", "") for each in found[pod]), None)

    def passage(head: str, own: str, other: str, address: str, seconds: float) -> Passage:
        tried.append((own, address))
        return Passage(None, 0.2)

    monkeypatch.setattr(network, "look", look)
    monkeypatch.setattr(network, "passage", passage)
    wanted = StartOptions(model="org/m", name="m", replicas="2", across="a,b").start()
    assert wanted.across
    assert "b has no private IPv4 address" in spread._reached([A, B], wanted, wanted.across)["b"].words
    found["b"].append("10.0.0.2")
    assert spread._reached([A, B], wanted, wanted.across)["b"].address == "10.0.0.2"
    assert tried == [("10.0.0.1", "10.0.0.2")]
    with pytest.raises(InputError, match="fd00::2 is an IPv6 address"):
        spread._reached([A, B], wanted, replace(wanted.across, addresses={"b": "fd00::2"}))


def test_replicas_that_the_first_pod_does_not_reach_run_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RemoteError("no-endpoint", "b is ready, but HAProxy's check does not reach it")

    monkeypatch.setattr(spread, "link", fails)
    monkeypatch.setattr(spread, "read_status", lambda _: SimpleNamespace(named=lambda _: None))
    spread._link([A, B], "m", {"b": spread.Reach("10.0.0.2", "")}, {"replicas": "4"})
    noted = capsys.readouterr().err
    assert "a does not pass requests on to all pods: b is ready" in noted and "pi scale m 4 --pod a" in noted


def test_two_names_of_one_machine_are_rejected() -> None:
    pods = [replace(each.pod, machine="m1") for each in (A, B)]
    with pytest.raises(InputError, match="a and b are the same machine"), joined(pods[0], A.connection, pods[1:]):
        pass


@pytest.mark.parametrize("port", [8001, 8002, None], ids=["the same port", "another port", "a failed start"])
def test_a_restart_cuts_the_link_to_a_port_that_it_gave_up(
    port: int | None,
    linked: list[tuple[str, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pod = state.load().pods["b"].with_model(Deployment("m", "org/m", 8001, (), 8))
    state.change(lambda before: before.with_pod(pod))

    def starts(*_: object) -> None:
        if port is None:
            raise RemoteError("exited", "it does not start")
        reconcile.remember(pod, Deployment("m", "org/m", port, (), 9))

    monkeypatch.setattr(restarting, "stop", lambda pod, connection, name: reconcile.forget(pod, {name}))
    monkeypatch.setattr(replicas, "start", starts)
    wanted = StartOptions(model="org/m", name="m", replicas="1").start()
    with suppress(RemoteError):
        restarting.restart(pod, connection("b"), wanted, "k")
    assert linked == ([] if port == 8001 else [("to a", "m", "b")])
    assert ("a passes no requests on to b now: pi scale m" in capsys.readouterr().err) is bool(linked)
