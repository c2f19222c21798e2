"""Shapes of a pod's private addresses, and of the measurement between two pods (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import List, Optional, TypedDict


class PrivateAddress(TypedDict):
    """An address of the pod on a private network.

    `network` is the provider's isolated network that it belongs to, such as "RunPod global networking", or "".
    """

    address: str
    interface: str
    network: str


class NetworkAnswer(TypedDict):
    """`firewall` says why pi may not set rules of the pod's firewall; None if it may."""

    addresses: List[PrivateAddress]
    firewall: Optional[str]


class ListenRequest(TypedDict):
    """Wait at `address` for the pod at `peer`, which knows the word and sends for `seconds`."""

    address: str
    peer: str
    word: str
    seconds: float


class ListenAnswer(TypedDict):
    """`problem` says why nothing was measured. `seen_from` is the other pod's address, as this one sees it."""

    problem: Optional[str]
    seen_from: str
    bytes_per_s: int


class ConnectRequest(TypedDict):
    """Connect from `own` to a pod that listens with the same word, and send for `seconds` over `streams`."""

    own: str
    address: str
    port: int
    word: str
    seconds: float
    streams: int


class ConnectAnswer(TypedDict):
    """`problem` says why the other pod was not reached. `round_trip_ms` is the median."""

    problem: Optional[str]
    round_trip_ms: float
