"""A pod's home for functions of `pi.on_pod` that run in this process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pi.on_pod import audit, private, records, redact, wire


class Wire(wire.Wire):
    """A call that nobody listens to and nobody cancels."""

    def __init__(self) -> None:
        self.who = "ann@laptop"
        self.secrets = redact.Secrets()
        self.cancelled = threading.Event()
        self.lost = threading.Event()
        self.sent: list[object] = []

    def emit(self, event: object) -> None:
        self.sent.append(event)


@pytest.fixture
def call() -> Wire:
    return Wire()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a pod that was set up."""
    own = tmp_path / ".pi"
    own.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for module, constant, path in (
        (records, "HOME", own),
        (records, "RUN", own / "run"),
        (records, "LOGS", tmp_path / ".vllm_logs"),
        (private, "HOME", own),
        (audit, "PATH", own / "audit.log"),
    ):
        monkeypatch.setattr(module, constant, str(path))
    return tmp_path
