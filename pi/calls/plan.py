"""`plan` on the pod: its vLLM reads the arguments of a plan."""

from __future__ import annotations

import secrets
from importlib.resources import files
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.calls.events import Event, Note
from pi.on_pod.plan_shapes import ReadAnswer, ReadRequest
from pi.on_pod.shapes import ArgumentCheck
from pi.planning.serve import server
from pi.planning.types import LaunchPlan

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def read_by_vllm(connection: Connection, plan: LaunchPlan, private: bool) -> tuple[str, ...]:
    """Have the pod's vLLM read a plan's arguments, and return its notes. Raises InputError if it rejects one."""
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    request: ReadRequest = {
        "venv": plan.venv,
        "instance": secrets.token_hex(8),
        "check": argument_check(plan, private),
    }
    call(connection, "plan", "read", request, ReadAnswer, listen)
    return tuple(notes)


def argument_check(plan: LaunchPlan, private: bool) -> ArgumentCheck:
    """Return what a pod needs to have its vLLM read the words that it will serve with."""
    environment, argv = server(plan, private)
    return {
        "program": (files("pi.setup") / "templates" / "read_arguments.py").read_text("utf-8"),
        "words": argv[1:],
        "variables": list(environment),
        "environment": {"VLLM_LOGGING_LEVEL": "ERROR", **environment},
    }
