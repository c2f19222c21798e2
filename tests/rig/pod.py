"""A pod for tests: a real sshd, and stand-ins for what needs a GPU or the network (`vllm`, `hf`, `nvidia-smi`)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from pi.calls.templates import render
from tests.rig import standin_hf, standin_nvidia_smi, standin_vllm
from tests.rig.cases import CASES
from tests.rig.patience import patient
from tests.rig.sshd import SshdPod

NOWHERE = "http://127.0.0.1:9"
"""The hub and the way to the internet of a test pod: nothing listens there, and that is known at once."""


def source(module: Any) -> str:
    return Path(module.__file__).read_text()


def make_venv(folder: Path, version: str = standin_vllm.VERSION) -> Path:
    """A small real venv with stand-ins as `vllm` and `hf`, and the metadata that tells vLLM's version."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for name, module in (("vllm", standin_vllm), ("hf", standin_hf)):
        program = folder / "bin" / name
        program.write_text(f"#!{folder}/bin/python -S\n{source(module)}")
        program.chmod(0o755)
    [packages] = folder.glob("lib/python3*/site-packages")
    metadata = packages / f"vllm-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return folder


class Pod(SshdPod):
    """`name` is what pi calls it in these tests."""

    def __init__(self, folder: Path, name: str, **options: Any) -> None:
        options["environment"] = {"HF_ENDPOINT": NOWHERE, "https_proxy": NOWHERE, **options.get("environment", {})}
        super().__init__(folder, **options)
        self.name = name

    def environment(self) -> dict[str, str]:
        """As of every pod, but for this machine's pip and uv settings: a test says where packages come from."""
        return {name: value for name, value in super().environment().items() if not name.startswith(("PIP_", "UV_"))}

    def furnish(self, venv: Path) -> Pod:
        """Put in place what a setup leaves behind, with `venv` as its ~/venv."""
        (self.home / "venv").symlink_to(venv)
        own = self.home / ".pi"
        for folder in (own, own / "guard"):
            folder.mkdir(mode=0o700)
        (own / "guard" / "pi_guard.py").write_text((files("pi.setup") / "templates" / "pi_guard.py").read_text())
        environment = own / "env.sh"
        environment.touch(mode=0o600)
        environment.write_text(render("environment.sh.j2", hf_token=None, api_key="sk-of-the-pods-setup"))
        return self

    def beside(self, folder: str, version: str) -> Path:
        """Put a second venv beside ~/venv, as a setup leaves it."""
        venv = make_venv(self.home / folder, version)
        (venv / ".pi-checked").touch()
        return venv

    def bare_machine(self, uv: Path) -> Pod:
        """Make it a machine that a setup has all from: a compiler, uv, and an apt-get that has nothing to do."""
        (self.bin / "uv").symlink_to(uv)
        self.program("ldconfig", "#!/bin/sh\necho libnuma.so.1\n")
        for name in ("g++", "apt-get", "dpkg"):
            self.program(name, "#!/bin/sh\nexit 0\n")
        return self

    def fault(self, program: str, **settings: Any) -> None:
        """Have a stand-in (`vllm`, `hf`, `nvidia_smi`) behave so from its next start on."""
        path = self.home / "fault" / f"{program}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(settings))

    def cards(self, answer: str, **settings: Any) -> None:
        """Give the pod GPUs: a captured answer of `nvidia-smi` (tests/cases/gpus) and how it differs."""
        text = source(standin_nvidia_smi).replace("@ANSWERS@", str(CASES / "gpus"))
        self.program("nvidia-smi", f"#!{sys.executable} -S\n{text}")
        self.fault("nvidia_smi", answer=f"{answer}.csv", **settings)

    def model(self, name: str = "m", **config: Any) -> str:
        """A model's folder on the pod, just enough of one for pi; its path."""
        folder = self.home / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192, **config}))
        (folder / "model.safetensors").write_bytes(bytes(1024))
        return str(folder)

    def received(self, name: str) -> dict[str, Any]:
        """What the stand-in of this name was started with: `pid`, `argv`, `env`."""
        words: dict[str, Any] = json.loads((self.home / "received" / f"{name}.json").read_text())
        return words

    def record(self, name: str) -> dict[str, Any]:
        """pi's own note of a deployment on the pod."""
        note: dict[str, Any] = json.loads((self.home / ".pi" / "run" / name / "record.json").read_text())
        return note

    def records(self) -> list[str]:
        """Names of the deployments that pi has a note of on the pod."""
        folder = self.home / ".pi" / "run"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def strangers(self) -> dict[int, str]:
        """Living processes of the pod that belong to no deployment that pi has a note of."""
        marks = {f"PI_INSTANCE={self.record(name)['instance']}".encode() for name in self.records()}
        sessions = {self.record(name).get("session") for name in self.records()}
        return {
            pid: words
            for pid, words in self.processes().items()
            if session_of(pid) not in sessions and not marks.intersection(environ_of(pid))
        }

    def log_of(self, name: str) -> Path:
        return self.home / ".vllm_logs" / f"{name}.log"

    def processes(self) -> dict[int, str]:
        """Living processes of the pod by pid, with their command lines: whoever has its HOME."""
        return of_home(self.home)

    def quiet(self, patience_s: float = 10) -> dict[int, str]:
        """What is left of the pod's processes once they have had time to end; empty is the hope."""
        until(lambda: not self.processes(), patience_s)
        return self.processes()


def new_host_key(pod: SshdPod) -> None:
    """Make its server another machine's, as far as ssh can tell."""
    for path in (pod.folder / "host_key", pod.folder / "host_key.pub"):
        path.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", pod.folder / "host_key"], check=True)
    pod.up()


def of_home(home: Path) -> dict[int, str]:
    mark, found = f"HOME={home}".encode(), {}
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        if mark in environ_of(pid) and is_alive(pid):
            found[pid] = read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that has ended and waits for its parent does not."""
    return stat_of(pid)[0] not in "ZX"


def session_of(pid: int) -> int:
    return int(stat_of(pid)[3])


def stat_of(pid: int) -> list[str]:
    """State, parent, group, session and the rest of /proc/PID/stat; a state of X where it is gone."""
    return read(pid, "stat").decode(errors="replace").rpartition(")")[2].split() or ["X", "0", "0", "0"]


def environ_of(pid: int) -> set[bytes]:
    return set(read(pid, "environ").split(b"\0"))


def read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal that ends a process, and wait until it has."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    until(lambda: not is_alive(pid))


def until(holds: Callable[[], Any], patience_s: float = 10) -> bool:
    """Wait until something holds; whether it does."""
    deadline = time.monotonic() + patient(patience_s)
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def first_free_port(first: int = 8001) -> int:
    return next(port for port in range(first, 65536) if not listens(port))
