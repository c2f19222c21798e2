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
from pathlib import Path
from typing import Any

import prometheus_client

from pi.calls.templates import render
from tests.rig import standin_arguments, standin_hf, standin_nvidia_smi, standin_vllm
from tests.rig.cases import CASES
from tests.rig.patience import patient
from tests.rig.sshd import SshdPod, new_key, pids

ROOT = Path(__file__).parents[2]

NOWHERE = "http://127.0.0.1:9"
"""The hub and the proxy of a test pod: nothing listens there, so connections fail at once."""


def source(module: Any) -> str:
    return Path(module.__file__).read_text()


def make_venv(folder: Path, version: str = standin_vllm.VERSION) -> Path:
    """Make a small real venv with stand-ins for `vllm` and `hf`, and metadata with vLLM's version."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for name, module in (("vllm", standin_vllm), ("hf", standin_hf)):
        compiled = folder / "bin" / f"standin_{name}.py"  # Python keeps the code of modules, not that of programs
        compiled.write_text(source(module))
        program = folder / "bin" / name
        program.write_text(f"#!{folder}/bin/python -S\nfrom standin_{name} import main\n\nmain()\n")
        program.chmod(0o755)
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder / "bin"], check=True)
    [packages] = folder.glob("lib/python3*/site-packages")
    (packages / "prometheus_client").symlink_to(Path(prometheus_client.__file__).parent)
    (packages / "vllm").mkdir()
    (packages / "vllm" / "__init__.py").write_text(source(standin_arguments))
    metadata = packages / f"vllm-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return folder


class Pod(SshdPod):
    """A pod that pi knows by `name`."""

    def __init__(self, folder: Path, name: str, **options: Any) -> None:
        options["environment"] = {"HF_ENDPOINT": NOWHERE, "https_proxy": NOWHERE, **options.get("environment", {})}
        super().__init__(folder, **options)
        self.name = name

    def environment(self) -> dict[str, str]:
        """Return the environment without this machine's pip and uv settings; tests set the source of packages."""
        return {name: value for name, value in super().environment().items() if not name.startswith(("PIP_", "UV_"))}

    def furnish(self, venv: Path) -> Pod:
        """Create the files of a completed setup, with `venv` as ~/venv."""
        (self.home / "venv").symlink_to(venv)
        own = self.home / ".pi"
        own.mkdir(mode=0o700)
        environment = own / "env.sh"
        environment.touch(mode=0o600)
        environment.write_text(render("environment.sh.j2", hf_token=None, api_key="sk-of-the-pods-setup"))
        return self

    def extra_venv(self, folder: str, version: str) -> Path:
        """Make an extra venv, as a setup does."""
        venv = make_venv(self.home / folder, version)
        (venv / ".pi-checked").touch()
        return venv

    def speak_dialects(self) -> None:
        """Replace its `vllm` by one behind pi's guard that speaks three dialects (`standin_dialects`)."""
        venv = make_venv(self.home.parent / "dialects")
        (venv / "bin" / "vllm").write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from tests.rig.standin_dialects import main\nmain()\n"
        )
        (self.home / "venv").unlink()
        (self.home / "venv").symlink_to(venv)

    def bare_machine(self, uv: Path) -> Pod:
        """Give the pod a compiler, uv, and an apt-get that does nothing, as setup needs them."""
        (self.bin / "uv").symlink_to(uv)
        self.program("ldconfig", "#!/bin/sh\necho libnuma.so.1\n")
        for name in ("g++", "apt-get", "dpkg"):
            self.program(name, "#!/bin/sh\nexit 0\n")
        return self

    def fault(self, program: str, **settings: Any) -> None:
        """Set the behaviour of a stand-in (`vllm`, `arguments`, `hf`, `nvidia_smi`) from its next start on."""
        path = self.home / "fault" / f"{program}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(settings))

    def cards(self, answer: str, **settings: Any) -> None:
        """Give the pod GPUs: a recorded output of `nvidia-smi` (tests/cases/gpus), changed by `settings`."""
        text = source(standin_nvidia_smi).replace("@ANSWERS@", str(CASES / "gpus"))
        self.program("nvidia-smi", f"#!{sys.executable} -S\n{text}")
        self.fault("nvidia_smi", answer=f"{answer}.csv", **settings)

    def model(self, name: str = "m", **config: Any) -> str:
        """Make a model's folder with the files that pi needs. Returns its path."""
        folder = self.home / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192, **config}))
        (folder / "model.safetensors").write_bytes(bytes(1024))
        return str(folder)

    def received(self, name: str) -> dict[str, Any]:
        """Return the `pid`, `argv` and `env` of the stand-in that serves this name."""
        words: dict[str, Any] = json.loads((self.home / "received" / f"{name}.json").read_text())
        return words

    def record(self, name: str) -> dict[str, Any]:
        """Return pi's record of a deployment on the pod."""
        record: dict[str, Any] = json.loads((self.home / ".pi" / "run" / name / "record.json").read_text())
        return record

    def records(self) -> list[str]:
        """Return the names of the deployments that have a record on the pod."""
        folder = self.home / ".pi" / "run"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def other_processes(self) -> dict[int, str]:
        """Return live processes of the pod that belong to no deployment with a record."""
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
        """Return the command lines of live processes with the pod's HOME, by pid."""
        return of_home(self.home)

    def programs(self) -> set[int]:
        """Return the Python processes of calls, not the shells that wait for them: those have its text in quotes."""
        return {pid for pid, words in self.processes().items() if " -c import sys,zlib;i=sys.stdin.buffer;" in words}

    def quiet(self, patience_s: float = 10) -> dict[int, str]:
        """Wait for the pod's processes to end. Returns those that remain, in the best case none."""
        until(lambda: not self.processes(), patience_s)
        return self.processes()


def new_host_key(pod: SshdPod) -> None:
    """Give the pod's sshd a new host key, so that ssh takes it for another machine."""
    for path in (pod.folder / "host_key", pod.folder / "host_key.pub"):
        path.unlink()
    new_key(pod.folder / "host_key")
    pod.up()


def of_home(home: Path) -> dict[int, str]:
    mark, found = f"HOME={home}".encode(), {}
    for pid in pids():
        environ = read(pid, "environ")
        if mark in environ and mark in environ.split(b"\0") and is_alive(pid):
            found[pid] = read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process is alive; a zombie is not."""
    return stat_of(pid)[0] not in "ZX"


def session_of(pid: int) -> int:
    return int(stat_of(pid)[3])


def stat_of(pid: int) -> list[str]:
    """Return state, parent, group, session and the rest of /proc/PID/stat; the state is X if it has ended."""
    return read(pid, "stat").decode(errors="replace").rpartition(")")[2].split() or ["X", "0", "0", "0"]


def environ_of(pid: int) -> set[bytes]:
    return set(read(pid, "environ").split(b"\0"))


def read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal that ends a process, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    until(lambda: not is_alive(pid))


def until(holds: Callable[[], Any], patience_s: float = 10) -> bool:
    """Wait until a condition holds. Returns False if it does not hold in time."""
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
