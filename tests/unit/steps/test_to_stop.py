"""What `pi stop` finds on a pod, alone and on several pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi.calls.status import Found, Status, Unrecorded
from pi.pods.types import Deployment
from pi.steps import to_stop


def found(name: str, state: Any, left: tuple[int, ...] = ()) -> Found:
    return Found(Deployment(name, "a/b", 8001, (), 77), state, None, None, None, (), left, 0, ())


def test_running_names_all_that_a_stop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without a valid record counts if its processes live."""
    status = replace(
        Status((), (), (), (), None, None, None, {}, {}, "boot", "boot/1", "m", 9.0),
        found=(found("a", "running"), found("b", "crashed"), found("c", "crashed", left=(9,)), found("d", "starting")),
        unrecorded=(Unrecorded("e", "", (4,), None, None, ()), Unrecorded("f", "", (), None, None, ())),
    )
    monkeypatch.setattr(to_stop, "read_status", lambda connection: status)
    connection: Any = None
    assert to_stop.running(connection) == ["a", "c", "d", "e"]
