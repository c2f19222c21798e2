"""`span` on the pod: what must be equal on all pods that serve one model together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.calls.launch import repository_of
from pi.calls.network import INTERFACE
from pi.calls.validation import WrongAnswerError
from pi.on_pod.span_shapes import SpanAnswer, SpanRequest
from pi.planning.serve import Rank
from pi.planning.spanning import Parts
from pi.planning.types import LaunchPlan
from pi.pods.types import Span
from pi.text import one_line

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Member:
    """One of several pods that serve a model together, as the pod itself records it."""

    span: Span
    rank: Rank
    closed: bool
    """Whether the pod's firewall keeps others from the ports between the pods."""

    @property
    def peers(self) -> list[str]:
        """Return the other pods, whose connections its launcher watches, as POD=ADDRESS."""
        pods = enumerate(zip(self.span.members, self.rank.addresses, strict=True))
        return [f"{pod}={address}" for number, (pod, address) in pods if number != self.rank.number]


def look(connection: Connection, plan: LaunchPlan, address: str | None = None) -> Parts:
    """Return what a pod has of a plan; `address` is one that the user gave for it. Changes nothing."""
    request: SpanRequest = {"model": repository_of(plan), "venv": plan.venv, "address": address}
    answer = call(connection, "span", "look", request, SpanAnswer)
    if answer["interface"] and not INTERFACE.fullmatch(answer["interface"]):
        raise WrongAnswerError("an interface with a strange name")
    return Parts(
        {one_line(name, 60): one_line(version, 100) for name, version in answer["versions"].items()},
        {one_line(name, 60): digest for name, digest in answer["environment"].items()},
        answer["weights"] and one_line(answer["weights"], 60),
        answer["interface"],
        one_line(answer["machine"], 60),
        one_line(answer["storage"], 300),
    )
