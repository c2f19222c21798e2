"""`stop` on the pod: which deployments, and how each ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import Listener, call
from pi.calls.records import span_of
from pi.on_pod.shapes import StopAnswer, StopFound, StopRequest
from pi.pods.types import Span
from pi.text import one_line

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Stopped:
    """How one deployment was stopped."""

    name: str
    found: StopFound
    forced_after_s: float | None
    """Seconds after which pi sent KILL; None if it ended by itself."""
    memory_proven: bool
    """Whether nvidia-smi could confirm that its GPU memory is free."""
    other_processes: tuple[str, ...]
    """Other processes that listen on its port now."""
    span: Span | None = None
    """The pods that served it together."""
    firewall: str = ""
    """Why the rules of the pod's firewall stay."""


def stop_models(connection: Connection, names: list[str], listen: Listener) -> tuple[Stopped, ...]:
    """Stop deployments (all without names), and prove that processes, port and GPU memory are free."""
    request: StopRequest = {"names": names}
    return tuple(map(_stopped, call(connection, "stop", "stop", request, list[StopAnswer], listen)))


def _stopped(answer: StopAnswer) -> Stopped:
    return Stopped(
        name=answer["name"],
        found=answer["found"],
        forced_after_s=answer.get("forced_after_s"),
        memory_proven=answer.get("memory_proven", True),
        other_processes=tuple(answer.get("other_processes", ())),
        span=span_of(
            answer.get("rank", 0), answer.get("members", []), answer.get("machines", []), answer.get("group", "")
        ),
        firewall=one_line(answer.get("firewall", ""), 300),
    )
