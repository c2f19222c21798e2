"""A pod's addresses on private networks, and the measurement between two pods."""

from __future__ import annotations

from typing import Dict, List

from pi.on_pod.network_shapes import (
    ConnectAnswer,
    ConnectRequest,
    ListenAnswer,
    ListenRequest,
    NetworkAnswer,
    PrivateAddress,
)
from pi.on_pod.wire import Wire


def look(wire: Wire, request: Dict[str, str]) -> NetworkAnswer:
    """Return the pod's private addresses, the provider's own first, and whether pi may set its firewall."""
    raise NotImplementedError


def private_addresses() -> List[PrivateAddress]:
    """Return the pod's private addresses, those on a provider's isolated network first."""
    raise NotImplementedError


def listen(wire: Wire, request: ListenRequest) -> ListenAnswer:
    """Wait for another pod at a private address, and count the bytes that it sends.

    The port ends by itself after seconds, and drops connections without the word.
    """
    raise NotImplementedError


def connect(wire: Wire, request: ConnectRequest) -> ConnectAnswer:
    """Connect to a pod that listens; measure the round trip, then send for some seconds."""
    raise NotImplementedError
