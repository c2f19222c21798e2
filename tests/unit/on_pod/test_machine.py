"""The id of a pod's machine: given once, the same after a reboot, another on a machine with the same home or image."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from pi.on_pod import machine, records


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """~/.pi/machine and /etc/machine-id of a machine that has neither."""
    given, system = tmp_path / ".pi" / "machine", tmp_path / "machine-id"
    monkeypatch.setattr(records, "HOME", str(given.parent))
    monkeypatch.setattr(machine, "FILE", str(given))
    monkeypatch.setattr(machine, "SYSTEM_FILE", str(system))
    return given, system


def test_a_machine_has_an_id_once_it_is_given(files: tuple[Path, Path]) -> None:
    assert machine.identity() == ""
    machine.give()
    first = machine.identity()
    machine.give()
    assert machine.identity() == first and re.fullmatch("[0-9a-f]{32}", first)
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def test_a_damaged_id_is_replaced(files: tuple[Path, Path]) -> None:
    machine.give()
    files[0].write_text("\x00 damaged\n")
    assert machine.identity() == ""
    machine.give()
    assert machine.identity()


def test_a_common_home_or_a_common_image_makes_no_common_id(files: tuple[Path, Path]) -> None:
    given, system = files
    system.write_text("b08dfa6083e7567a1921a715000001fb\n")
    machine.give()
    first = machine.identity()
    assert system.read_text().strip() not in (first, given.read_text().strip())
    system.write_text("17a1921a715000001fbb08dfa6083e75\n")
    assert machine.identity() != first
    system.write_text("b08dfa6083e7567a1921a715000001fb\n")
    assert machine.identity() == first
    given.unlink()
    machine.give()
    assert machine.identity() != first
