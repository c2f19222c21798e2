"""The time of the last request, which the guard leaves in a model's folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pi.on_pod import asked, records
from tests.unit.on_pod.conftest import Wire


def test_the_age_of_the_last_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RUN", str(tmp_path))
    assert records.asked_s_ago("q") is None
    (tmp_path / "q").mkdir()
    path = tmp_path / "q" / "asked"
    path.touch()
    os.utime(path, (0, time.time() - 120))
    age = records.asked_s_ago("q")
    assert age is not None and 119 < age < 130
    os.utime(path, (0, time.time() + 3600))
    assert records.asked_s_ago("q") == 0.0, "the clock was set back"


def test_the_pods_last_request_outlives_its_model(home: Path, call: Wire) -> None:
    assert asked.asked(call, {}) == {"s_ago": None}
    for name, age in (("new", 60), ("old", 9000)):
        records.write(name, "record.json", "{}")
        (home / ".pi" / "run" / name / "asked").touch()
        os.utime(home / ".pi" / "run" / name / "asked", (0, time.time() - age))
    for name in ("new", "old"):
        records.forget(name)
        found = asked.asked(call, {})["s_ago"]
        assert found is not None and 59 < found < 90
