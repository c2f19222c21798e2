"""`explain` on the pod: how a deployment ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi import screen
from pi.calls.call import call
from pi.calls.events import processes_of
from pi.calls.failures import facts_of
from pi.on_pod.events import ServerDetail
from pi.on_pod.record_shapes import ModelState
from pi.on_pod.shapes import ExplainRequest
from pi.vllm.hangs import Process, hung_at, shown
from pi.vllm.log import Failure, explain
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
    state: ModelState | None = None
    """What it does if it has not ended."""
    hung_s: float | None = None
    """For how long it hangs; None if it does not."""
    processes: tuple[Process, ...] = ()
    """What the processes of one that hangs did."""

    def failure(self, code: int | None = None, flag: str = "") -> Failure:
        """Return why it ended, with another exit code if one is given, where it hangs, or that it has not ended.

        `flag` leads a command to its pod, with a blank before it.
        """
        if self.hung_s is not None:
            return self._hang(self.hung_s, flag)
        if self.state and code is None:
            return Failure(f"{self.name} is {self.state}", None, f"its log: pi logs {self.name}{flag}")
        return explain(self.log, self.exit_code if code is None else code, self.facts)

    def _hang(self, seconds: float, flag: str) -> Failure:
        place = hung_at(self.processes, self.facts)
        cause = f"{self.name} hangs since {screen.clock(time.time() - seconds)}, without an answer or progress"
        hints = [place.hint] if place and place.hint else []
        hints += [
            f"to start it again: pi restart {self.name}{flag}",
            f"the stacks: pi logs {self.name}{flag} --grep pi: --no-follow",
        ]
        lines = [f"{cause}: {place.doing}" if place else cause, *shown(self.processes)]
        return Failure("\n".join(lines), place.id if place else "hangs", "\n  ".join(hints))


def read_ending(connection: Connection, name: str | None) -> Ended:
    """Return how a deployment ended; without a name, the one whose log was written last. Raises RemoteError."""
    request: ExplainRequest = {"name": name}
    answer = call(connection, "explain", "explain", request, ServerDetail)
    return Ended(
        answer["name"],
        answer["log"],
        answer.get("exit"),
        facts_of(answer),
        answer.get("lines_before", 0),
        answer.get("state"),
        answer.get("hung_s"),
        processes_of(answer.get("processes", [])),
    )
