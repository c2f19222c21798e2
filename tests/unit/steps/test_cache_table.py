"""`pi cache` on a narrow terminal."""

from __future__ import annotations

import pytest

from pi import screen
from pi.calls.cache import Cache, CachedModel
from pi.pods.types import Pod
from pi.steps import cache_table
from pi.steps.group import Asked

ID = "nvidia/Llama-3_3-Nemotron-Super-49B-v1_5-NVFP4"


def test_a_narrow_terminal_shows_whole_names_for_cache_rm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "width", lambda: 60)
    found = Cache("/root/.cache", 10**12, (CachedModel(ID, 30 * 10**9, 0, None, ("nemotron",), ()),))
    cache_table.show([Asked(Pod("box", "ssh root@192.0.2.1"), found)])
    shown = capsys.readouterr().out
    assert ID in shown and f"  {ID}: nemotron" in shown
