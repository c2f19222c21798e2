"""The time of the last request, which the guard leaves in a model's folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pi.on_pod import records


def test_the_age_of_the_last_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RUN", str(tmp_path))
    assert records.asked_s_ago("q") is None
    (tmp_path / "q").mkdir()
    asked = tmp_path / "q" / "asked"
    asked.touch()
    os.utime(asked, (0, time.time() - 120))
    age = records.asked_s_ago("q")
    assert age is not None and 119 < age < 130
    os.utime(asked, (0, time.time() + 3600))
    assert records.asked_s_ago("q") == 0.0, "the clock was set back"
