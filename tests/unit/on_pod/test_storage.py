"""Where models are, and whether they are within reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.on_pod import storage


def test_a_link_whose_disk_is_away_is_trouble_and_a_cache_that_is_not_there_yet_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert storage.trouble() is None
    link, disk = tmp_path / ".cache/huggingface", tmp_path / "disk"
    link.parent.mkdir()
    link.symlink_to(disk)
    assert storage.trouble() == f"{disk}: No such file or directory"
    disk.mkdir()
    assert storage.trouble() is None
