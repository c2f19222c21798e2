"""A pod's private addresses: which of its own are private, and which its provider names."""

from __future__ import annotations

import socket

import pytest

from pi.on_pod import container, network

OWN = [
    ("127.0.0.1", "lo"),
    ("203.0.113.5", "eth0"),
    ("172.17.0.1", "docker0"),
    ("100.64.1.2", "tailscale0"),
    ("fd00::5", "eth1"),
    ("10.0.0.5", "eth1"),
    ("10.65.0.2", "ens1"),
    ("10.2.3.4", "podnet1"),
    ("172.18.0.1", "br-0123456789ab"),
]

RUNPOD = {"RUNPOD_POD_ID": "abc123"}

CASES = {
    "no provider": ({}, ["10.0.0.5", "10.65.0.2", "10.2.3.4", "100.64.1.2", "fd00::5"], {}),
    "global networking of RunPod": (
        RUNPOD,
        ["10.2.3.4", "10.0.0.5", "10.65.0.2", "100.64.1.2", "fd00::5"],
        {"10.2.3.4": network.GLOBAL},
    ),
    "a cluster of RunPod": (
        {**RUNPOD, "NODE_ADDR": "10.65.0.2", "PRIMARY_ADDR": "10.65.0.1"},
        ["10.65.0.2", "10.2.3.4", "10.0.0.5", "100.64.1.2", "fd00::5"],
        {"10.65.0.2": network.CLUSTER, "10.2.3.4": network.GLOBAL},
    ),
    "a NODE_ADDR of something else": (
        {"NODE_ADDR": "10.65.0.2", "PRIMARY_ADDR": "10.65.0.1"},
        ["10.0.0.5", "10.65.0.2", "10.2.3.4", "100.64.1.2", "fd00::5"],
        {},
    ),
    "a strange pod id": (
        {"RUNPOD_POD_ID": "evil.example/"},
        ["10.0.0.5", "10.65.0.2", "10.2.3.4", "100.64.1.2", "fd00::5"],
        {},
    ),
}


@pytest.mark.parametrize(("variables", "addresses", "named"), CASES.values(), ids=CASES)
def test_private_addresses_with(
    variables: dict[str, str], addresses: list[str], named: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert host == "abc123.runpod.internal"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.2.3.4", 0))]

    for name in ("RUNPOD_POD_ID", "NODE_ADDR", "PRIMARY_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(container, "variables", lambda: variables)
    monkeypatch.setattr(network, "own_addresses", lambda: OWN)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = network.private_addresses()
    assert {each["address"]: each["network"] for each in found if each["network"]} == named
    first = len(named)
    assert sorted(each["address"] for each in found[:first]) == sorted(addresses[:first])
    assert [each["address"] for each in found[first:]] == addresses[first:]


def test_the_addresses_of_this_machine_are_read() -> None:
    assert ("127.0.0.1", "lo") in network.own_addresses()
