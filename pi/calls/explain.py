"""`explain` on the pod: how a deployment ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.calls.failures import facts_of
from pi.on_pod.events import ServerDetail
from pi.on_pod.shapes import ExplainRequest
from pi.vllm.start_facts import StartFacts

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Ended:
    """How a deployment ended, or that it runs: the end of its log and its exit code, if known."""

    name: str
    log: str
    exit_code: int | None
    facts: StartFacts
    lines_before: int | None
    """Lines of the log before that end; None if pi did not count them."""
    is_running: bool


def read_ending(connection: Connection, name: str | None) -> Ended:
    """Return how a deployment ended; without a name, the one whose log was written last. Raises RemoteError."""
    request: ExplainRequest = {"name": name}
    answer = call(connection, "explain", "explain", request, ServerDetail)
    return Ended(
        name=answer["name"],
        log=answer["log"],
        exit_code=answer.get("exit"),
        facts=facts_of(answer),
        lines_before=answer.get("lines_before", 0),
        is_running=answer.get("running", False),
    )
