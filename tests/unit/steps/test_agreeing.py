"""What keeps others from the ports between pods."""

from __future__ import annotations

import pytest

from pi.calls.network import Address, PodNetwork
from pi.errors import InputError
from pi.steps.agreeing import protected
from pi.steps.starting import Across

OPEN, CLOSED = PodNetwork((), "it has no nft"), PodNetwork((), None)

ISOLATED, PLAIN = Address("10.0.0.5", "eth1", "RunPod global networking"), Address("10.0.0.6", "eth1", "")


@pytest.mark.parametrize(
    ("networks", "addresses", "closed", "words"),
    [
        ((CLOSED, CLOSED), (PLAIN, PLAIN), {"a": True, "b": True}, "pi sets the firewall of a and b"),
        (
            (OPEN, OPEN),
            (ISOLATED, ISOLATED),
            {"a": False, "b": False},
            "isolated network: a in RunPod global networking",
        ),
        ((CLOSED, OPEN), (PLAIN, ISOLATED), {"a": True, "b": False}, "b in RunPod global networking"),
    ],
)
def test_a_firewall_or_an_isolated_network_keeps_others_out(
    networks: tuple[PodNetwork, ...], addresses: tuple[Address, ...], closed: dict[str, bool], words: str
) -> None:
    found, notes = protected(
        dict(zip("ab", networks, strict=True)), dict(zip("ab", addresses, strict=True)), Across(("a", "b"))
    )
    assert found == closed and words in " ".join(notes)


def test_ports_that_others_reach_are_refused_unless_the_user_accepts_that() -> None:
    networks, addresses = {"a": CLOSED, "b": OPEN}, {"a": PLAIN, "b": PLAIN}
    with pytest.raises(InputError, match="may not close them: b: it has no nft"):
        protected(networks, addresses, Across(("a", "b")))
    closed, notes = protected(networks, addresses, Across(("a", "b"), insecure_public=True))
    assert closed == {"a": True, "b": False}
    assert "NOT PROTECTED: anyone who reaches b can run code there (--insecure-public)" in notes
