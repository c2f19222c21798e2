"""The facts of a machine before its setup, asked of this one and of stand-ins."""

from __future__ import annotations

import fcntl
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi.calls.check import addresses, machine_facts
from pi.calls.validation import checked
from pi.on_pod import check, gpus
from pi.on_pod.check_shapes import CheckAnswer
from pi.pods.gpus import QUERY
from tests.rig.answering import answering
from tests.rig.skips import skip

REQUEST: Any = {"gpu_query": QUERY, "models_path": None, "addresses": []}


def test_the_facts_of_this_machine_have_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(gpus, "NVIDIA_SMI", ())
    answer = checked(CheckAnswer, check.look(REQUEST), "result")
    facts = machine_facts(answer, "/mnt/store")
    assert (facts.device in ("cpu", "unknown", "amd"), facts.gpus) == (True, ())
    assert facts.home.path == str(tmp_path) and facts.home.runs and facts.home.free_bytes > 0
    assert facts.hub_variables["HF_HOME"] == str(tmp_path / "hf")
    assert facts.models.path == str(tmp_path / "hf" / "hub") and abs(facts.skew_s) < 60
    assert (facts.vllm_version, facts.venv, facts.models_path) == (None, None, "/mnt/store")
    assert facts.memory_mib > 0 and facts.cpus > 0 and facts.system and facts.glibc
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("options", ["noexec", "ro"])
def test_a_folder_in_which_no_program_runs(tmp_path: Path, options: str) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    words: list[str | Path] = ["mount", "-t", "tmpfs", "-o", f"{options},size=1m", "none", folder]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        skip("mount")
    try:
        found = check._folder(str(folder))
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert not found["runs"]
    assert found["problem"] == (None if options == "noexec" else "Read-only file system")


def test_a_folder_that_is_not_there_yet_counts_as_its_parent(tmp_path: Path) -> None:
    found = check._folder(str(tmp_path / "a" / "b"))
    assert found["runs"] and found["problem"] is None and list(tmp_path.iterdir()) == []


def test_a_venv_is_described_and_never_judged(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert check._venv(str(venv)) is None
    (venv / "bin").mkdir(parents=True)
    assert check._venv(str(venv)) == {"python": None, "made_by_pi": False}
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / ".pi-made").touch()
    assert check._venv(str(venv)) == {"python": ".".join(map(str, sys.version_info[:3])), "made_by_pi": True}


def test_the_process_that_installs_packages_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock-frontend"
    lock.touch()
    monkeypatch.setattr(check, "LOCKS", (str(tmp_path / "missing"), str(lock)))
    assert check._package_lock() is None
    with open(lock, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert check._package_lock() == f"pid {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})"


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/gone/":
            return self.send_error(404)
        body = b'<a href="../x-1.whl#sha256=0">x</a>' if self.path == "/simple/x/" else bytes(2**20)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def index() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_speed_of_a_line_is_that_of_a_wheel(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = check._line(f"http://{index}/simple/x/")
    assert found["host"] == index and found["problem"] is None and (found["bytes_per_s"] or 0) > 2**20
    assert check._line(f"http://{index}/gone/") == {"host": index, "bytes_per_s": None, "problem": None}
    silent = check._line("http://127.0.0.1:9/simple/x/")
    assert silent["problem"] and "refused" in silent["problem"]


TRICKLES = {
    "its head": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, None, "no whole answer within 20 s"),
    "its body": (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000, 0, None),
}


@pytest.mark.parametrize(("answer", "speed", "problem"), TRICKLES.values(), ids=TRICKLES)
def test_a_server_that_trickles_does_not_stretch_the_check(
    answer: bytes, speed: int | None, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PI_TEST_PACE", "0.03")
    monkeypatch.setattr(check, "SAMPLE_S", 0.1)
    with answering(answer, pause_s=0.01 if speed is None else 0.005) as address:
        found = check._line(f"http://{address}/simple/x/")
    assert found["problem"] == problem
    assert found["bytes_per_s"] is None if speed is None else 0 < (found["bytes_per_s"] or 0) < 1000


def test_addresses_are_those_of_the_users_mirrors_without_their_passwords() -> None:
    mirrors = {"PIP_INDEX_URL": "https://ann:pw@mirror.example/simple/", "HF_ENDPOINT": "https://hub.example"}
    assert addresses(mirrors) == [
        "https://mirror.example/simple/numpy/",
        "https://hub.example/gpt2/resolve/main/model.safetensors",
    ]
    assert addresses({})[0] == "https://pypi.org/simple/numpy/"
