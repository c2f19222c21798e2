"""The file measurements.json: private, bounded, shared by several pi, and never a reason to fail."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pi.planning.measurements import Setting
from pi.steps import measurements
from pi.vllm.measured import Measured

SETTING = Setting("Qwen/Qwen3-8B", "H100 80GB HBM3, 80 GiB", 1, 1, 1, "0.33.0", 0.9, "128", "", "0123456789abcdef")
FIGURES = Measured(loading_gib=15.27, kv_tokens=35792)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_what_is_kept_is_loaded_from_a_private_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert measurements.load() == {}
    measurements.keep(SETTING, FIGURES, {"--max-num-seqs": "90"})
    [start] = measurements.load().values()
    assert (start.measured, start.corrections) == (FIGURES, {"--max-num-seqs": "90"})
    assert stat.S_IMODE(measurements.path().stat().st_mode) == 0o600
    assert capsys.readouterr().err == ""


def test_a_second_start_replaces_the_figures_that_it_measured() -> None:
    measurements.keep(SETTING, FIGURES, {})
    measurements.keep(SETTING, Measured(kv_tokens=43040), {})
    assert [start.measured for start in measurements.load().values()] == [replace(FIGURES, kv_tokens=43040)]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 9}', b"\xff", b"[" * 10**5])
def test_a_damaged_file_gives_one_warning_and_is_replaced(damage: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    measurements.path().write_bytes(damage)
    assert measurements.load() == {}
    measurements.keep(SETTING, FIGURES, {})
    assert capsys.readouterr().err.count("warning: ignoring ") == 1
    assert list(measurements.load()) == [SETTING]


def test_several_at_once_keep_all() -> None:
    settings = [Setting(f"org/m{number}", "CPU", 1, 1, 1, "0.33.0", None, "", "", "") for number in range(20)]
    threads = [threading.Thread(target=measurements.keep, args=(setting, FIGURES, {})) for setting in settings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(measurements.load()) == set(settings)


def test_a_file_that_another_pi_holds_gives_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PI_LOCK_TIMEOUT", "0.1")
    with (folder / "measurements.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        measurements.keep(SETTING, FIGURES, {})
    assert "warning: what vLLM measured is not saved: " in capsys.readouterr().err
    assert measurements.load() == {}


def test_a_link_at_the_place_of_the_new_file_is_not_followed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "target"
    target.write_text("mine")
    os.symlink(target, folder / "measurements.json.new")
    measurements.keep(SETTING, FIGURES, {})
    assert target.read_text() == "mine"
    assert "is not saved" in capsys.readouterr().err
