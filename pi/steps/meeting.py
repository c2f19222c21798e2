"""Choose the addresses at which the pods of one model reach each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address

from pi.calls.network import Address, PodNetwork
from pi.errors import InputError


def addresses(
    networks: Mapping[str, PodNetwork], given: Mapping[str, str], interfaces: Mapping[str, str]
) -> dict[str, Address]:
    """Return the address of each pod, the head first: those given, else the ones that are nearest to each other.

    `interfaces` are those that have the given addresses, "" if none has. Raises InputError if a pod has no address.
    """
    choices = {name: _choices(name, networks, given, interfaces) for name in networks}
    head, *others = choices
    best = max(
        choices[head], key=lambda own: sorted(max(_near(own, each) for each in choices[name]) for name in others)
    )
    found = {head: best} | {name: max(choices[name], key=lambda each: _near(best, each)) for name in others}
    if len({each.address for each in found.values()}) < len(found):
        raise InputError("span-addresses", "two pods have the same address", "name others: --address POD=IP")
    return found


def _choices(
    name: str, networks: Mapping[str, PodNetwork], given: Mapping[str, str], interfaces: Mapping[str, str]
) -> list[Address]:
    own = networks[name].addresses
    if name in given:
        known = [each for each in own if each.address == given[name]]
        if not known and not interfaces[name]:
            listed = ", ".join(each.address for each in own) or "none that is private"
            raise InputError("address-absent", f"{name} does not have the address {given[name]}", f"it has {listed}")
        return known or [Address(given[name], interfaces[name], "")]
    counts = Counter(each.address for one in networks.values() for each in one.addresses)
    unique = [each for each in own if counts[each.address] == 1]  # others lead to containers of the pod itself
    if not unique:
        hint = f"name the address at which the other pods reach it: --address {name}=IP"
        raise InputError("no-private-address", f"{name} has no private address of its own", hint)
    return unique


def _near(one: Address, other: Address) -> tuple[bool, int]:
    """Return how near two addresses are: a provider's network that both have, then their equal bits."""
    first, second = ip_address(one.address), ip_address(other.address)
    if first.version != second.version:
        return False, -OF_ANOTHER_VERSION
    return bool(one.network) and one.network == other.network, -(int(first) ^ int(second)).bit_length()


OF_ANOTHER_VERSION = 999
"""Farther than the 128 bits of two IPv6 addresses."""
