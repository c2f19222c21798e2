"""`doctor` on the pod: the hub's token, and what earlier work left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.on_pod.doctor_shapes import DoctorAnswer, TokenState

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class PodHealth:
    """What only `pi doctor` asks a pod."""

    token: TokenState
    unfinished_bytes: int
    abandoned: tuple[str, ...]
    """Models with unfinished downloads that nobody continues."""


def ask(connection: Connection) -> PodHealth:
    answer = call(connection, "doctor", "doctor", {}, DoctorAnswer)
    return PodHealth(answer["token"], answer["unfinished_bytes"], tuple(answer["abandoned"]))
