"""The addresses at which the pods of one model reach each other."""

from __future__ import annotations

import pytest

from pi.calls.network import Address, PodNetwork
from pi.errors import InputError
from pi.steps.meeting import addresses


def pod(*found: str) -> PodNetwork:
    """Return a pod with these addresses, such as "10.0.0.5" or "10.0.0.5 of RunPod"."""
    parts = (each.partition(" of ") for each in found)
    return PodNetwork(tuple(Address(address, "eth0", network) for address, _, network in parts), None)


CASES: dict[str, tuple[dict[str, PodNetwork], list[str]]] = {
    "one each": ({"a": pod("10.0.0.5"), "b": pod("10.0.0.6")}, ["10.0.0.5", "10.0.0.6"]),
    "the network that both have": (
        {"a": pod("192.168.7.2", "10.0.0.5"), "b": pod("10.0.0.6", "172.20.0.9")},
        ["10.0.0.5", "10.0.0.6"],
    ),
    "the provider's network, though another is nearer": (
        {"a": pod("10.0.0.5", "10.9.0.1 of RunPod"), "b": pod("10.0.0.6", "10.200.0.1 of RunPod")},
        ["10.9.0.1", "10.200.0.1"],
    ),
    "not the bridge to each pod's own containers": (
        {"a": pod("172.17.0.1", "10.0.0.5"), "b": pod("172.17.0.1", "10.0.1.6")},
        ["10.0.0.5", "10.0.1.6"],
    ),
    "three pods, IPv6 last": (
        {"a": pod("fd00::1", "10.0.0.5"), "b": pod("10.0.0.6", "fd00::2"), "c": pod("10.0.0.7")},
        ["10.0.0.5", "10.0.0.6", "10.0.0.7"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_pods_get_addresses_that_are_near_each_other(case: str) -> None:
    networks, wanted = CASES[case]
    assert [each.address for each in addresses(networks, {}, {}).values()] == wanted


def test_a_given_address_decides_also_over_the_others() -> None:
    networks = {"a": pod("192.168.7.2", "10.0.0.5"), "b": pod("10.0.0.6", "192.168.7.3")}
    found = addresses(networks, {"b": "192.168.7.3"}, {"b": "eth0"})
    assert [each.address for each in found.values()] == ["192.168.7.2", "192.168.7.3"]
    public = addresses(networks, {"b": "203.0.113.9"}, {"b": "eth1"})["b"]
    assert (public.address, public.interface) == ("203.0.113.9", "eth1")


@pytest.mark.parametrize(
    ("networks", "given", "id"),
    [
        ({"a": pod("10.0.0.5"), "b": pod()}, {}, "no-private-address"),
        ({"a": pod("10.0.0.5"), "b": pod("10.0.0.5")}, {}, "no-private-address"),
        ({"a": pod("10.0.0.5"), "b": pod("10.0.0.6")}, {"b": "10.0.0.9"}, "address-absent"),
        ({"a": pod("10.0.0.5"), "b": pod()}, {"a": "10.0.0.5", "b": "10.0.0.5"}, "span-addresses"),
    ],
)
def test_a_pod_without_an_address_is_named(networks: dict[str, PodNetwork], given: dict[str, str], id: str) -> None:
    with pytest.raises(InputError) as raised:
        addresses(networks, given, {"a": "eth0", "b": "eth0" if id == "span-addresses" else ""})
    assert raised.value.id == id
