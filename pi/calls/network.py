"""The network between pods: a pod's private addresses, and what two pods measure of the line between them."""

from __future__ import annotations

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from queue import Queue
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.calls.events import Event, Listening
from pi.calls.validation import WrongAnswerError
from pi.on_pod.network_shapes import (
    ConnectAnswer,
    ConnectRequest,
    ListenAnswer,
    ListenRequest,
    NetworkAnswer,
    PrivateAddress,
)
from pi.on_pod.pace import paced
from pi.text import one_line

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

MEASURED_S = 2.0

STREAMS = 4
"""One stream can be limited by one core of a pod, or by the window of a long line."""


@dataclass(frozen=True)
class Address:
    """An address of a pod on a private network; `network` is its provider's isolated network, or ""."""

    address: str
    interface: str
    network: str


@dataclass(frozen=True)
class PodNetwork:
    """The private addresses of a pod, and why pi may not set its firewall (None if it may)."""

    addresses: tuple[Address, ...]
    firewall: str | None


@dataclass(frozen=True)
class Passage:
    """What a pod found when it connected to another one: why it failed, or its figures."""

    problem: str | None
    round_trip_ms: float = 0
    gbit_per_s: float = 0


@dataclass(frozen=True)
class Line:
    """The line between two pods, measured both ways. If the first way fails, `back` says the same."""

    there: Passage
    back: Passage

    @property
    def problem(self) -> str | None:
        """Why the pods do not reach each other both ways, or None."""
        return self.there.problem or self.back.problem

    @property
    def round_trip_ms(self) -> float:
        return max(self.there.round_trip_ms, self.back.round_trip_ms)

    @property
    def gbit_per_s(self) -> float:
        """Return the speed of the slower direction."""
        return min(self.there.gbit_per_s, self.back.gbit_per_s)


def look(connection: Connection) -> PodNetwork:
    """Return a pod's private addresses, the best one first. Changes nothing."""
    answer = call(connection, "network", "look", {}, NetworkAnswer)
    return PodNetwork(
        tuple(map(_address, answer["addresses"])), answer["firewall"] and one_line(answer["firewall"], 200)
    )


INTERFACE = re.compile(r"[\w.:-]{1,15}")
"""A name of a network interface, which Linux limits to 15 bytes; it becomes part of a rank's environment."""


def _address(found: PrivateAddress) -> Address:
    try:
        address = str(ip_address("" if "%" in found["address"] else found["address"]))
    except ValueError:
        raise WrongAnswerError("a private address that is not an IP address") from None
    if not INTERFACE.fullmatch(found["interface"]):
        raise WrongAnswerError("an interface with a strange name")
    return Address(address, found["interface"], one_line(found["network"], 60))


def measure(one: Connection, own: str, other: Connection, address: str, seconds: float = MEASURED_S) -> Line:
    """Measure the line between pod `one` at `own` and pod `other` at `address`, both ways, one after the other."""
    seconds = paced(seconds)
    there = passage(one, own, other, address, seconds)
    return Line(there, there if there.problem else passage(other, address, one, own, seconds))


def passage(connector: Connection, own: str, listener: Connection, address: str, seconds: float) -> Passage:
    """Measure one way, from `own` to `address`. A one-time word keeps all others from the port."""
    word = secrets.token_hex(16)
    ports: Queue[int | None] = Queue()

    def hear(event: Event) -> None:
        if isinstance(event, Listening):
            ports.put(event.port)

    asked: ListenRequest = {"address": address, "peer": own, "word": word, "seconds": seconds}
    with ThreadPoolExecutor(max_workers=1) as pool:
        listening = pool.submit(call, listener, "network", "listen", asked, ListenAnswer, hear)
        listening.add_done_callback(lambda _: ports.put(None))
        port = ports.get()
        if port is None:
            return Passage(one_line(listening.result()["problem"] or "it did not listen", 200))
        connecting: ConnectRequest = {
            "own": own,
            "address": address,
            "port": port,
            "word": word,
            "seconds": seconds,
            "streams": STREAMS,
        }
        reached = call(connector, "network", "connect", connecting, ConnectAnswer)
        heard = listening.result()
    return passage_of(reached, heard, own)


def passage_of(reached: ConnectAnswer, heard: ListenAnswer, own: str) -> Passage:
    """Return what both ends found, in words if it does not suit ranks."""
    problem = reached["problem"] or heard["problem"]
    if not problem and heard["seen_from"] != own:
        problem = (
            f"its address arrives as {heard['seen_from']} instead of {own}: the network between them translates it"
        )
    if problem:
        return Passage(one_line(problem, 200))
    return Passage(None, reached["round_trip_ms"], heard["bytes_per_s"] * 8 / 1e9)
