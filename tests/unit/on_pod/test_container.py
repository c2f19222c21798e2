"""Variables of the container that an SSH session lacks, from a stand-in for /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pi.on_pod import container


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the first process; its session has none of its variables."""
    folder = tmp_path / "proc" / "1"
    (folder / "task" / "1").mkdir(parents=True)
    monkeypatch.setattr(container, "PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(container, "FILES", (str(tmp_path / "environment"),))
    monkeypatch.setattr(container, "DRIVER_FOLDERS", (str(tmp_path / "nvidia"),))
    monkeypatch.setenv(container.LIBRARIES, "")  # so that what a test adds goes afterwards
    monkeypatch.delenv(container.LIBRARIES)
    return folder


def driver(folder: Path) -> str:
    folder.mkdir()
    (folder / "libnvidia-ml.so.1").touch()
    return str(folder)


def test_the_drivers_folder_of_the_first_process_is_added(first: Path, tmp_path: Path) -> None:
    there = driver(tmp_path / "driver")
    other = tmp_path / "other"
    other.mkdir()
    (first / "environ").write_text(f"A=1\0LD_LIBRARY_PATH={other}:{there}:relative:/missing\0")
    container.adopt()
    assert os.environ[container.LIBRARIES] == there


def test_a_known_folder_is_not_added_again_and_the_sessions_come_first(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, usual = driver(tmp_path / "driver"), driver(tmp_path / "nvidia")
    monkeypatch.setenv(container.LIBRARIES, f"/opt/lib:{known}")
    (first / "environ").write_text(f"LD_LIBRARY_PATH={known}\0")
    container.adopt()
    assert os.environ[container.LIBRARIES] == f"/opt/lib:{known}:{usual}"


def test_a_pod_without_such_a_folder_keeps_its_environment(first: Path) -> None:
    container.adopt()
    assert container.LIBRARIES not in os.environ


# where the provider's variables are, if sshd is the first process and has overwritten its own
PLACES = ["environ", "child", "file"]


@pytest.mark.parametrize("place", PLACES)
def test_the_map_of_ports_is_found(first: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "own")
    (first / "environ").write_bytes(b"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0\0\0")
    wanted = {"PUBLIC_IPADDR": "203.0.113.9", "VAST_TCP_PORT_8001": "40001"}
    entries = [f"{name}={value}" for name, value in {**wanted, "SECRET": "x"}.items()]
    if place == "environ":
        (first / "environ").write_text("\0".join(entries))
    elif place == "child":
        (first / "task" / "1" / "children").write_text("7 8 ")
        for pid, text in (("7", "\0".join(entries)), ("8", "sshd: root")):
            (tmp_path / "proc" / pid).mkdir()
            (tmp_path / "proc" / pid / "environ").write_text(text)
    else:
        (tmp_path / "environment").write_text(
            "".join(f'export {entry.replace("=", chr(61) + chr(34))}"\n' for entry in entries)
        )
    assert container.ports() == {**wanted, "RUNPOD_POD_ID": "own"}
    assert container.hides_variables() == (place != "environ")
