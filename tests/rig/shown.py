"""Run the commands of README.md and docs/ as a reader types them, with a test's laptop and pod."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from socket import gethostname

from chores.docs import RENEW, drift, renew
from tests.rig import forks
from tests.rig.command import Pi, login, program
from tests.rig.pod import Pod, first_free_port

ADDRESS = "203.0.113.7"
"""The pod's address in the pages: one for documentation (RFC 5737)."""

PORT = 22022

TUNNEL = "the tunnel's port"
"""Stands for a port of the laptop until all others are replaced: here the pod itself has the first port."""

DOOR = "the door's port"
"""Stands for the address of `pi door` in the same way."""

FOR_A_SHELL = set("$`|&;<>()~*?#\\\n")
"""A command with one of these runs in bash."""

LEFT_OUT = (
    "  asking the pod (",
    "  note: uv follows pip's settings",
    "  note: cannot reach download.pytorch.org",
    "  note: cannot download Python 3.12",
    "  note: no Python.h",
)
"""Lines with these beginnings depend on the network, packages and speed of the machine that runs the tests."""


class Laptop:
    """Runs commands in `directory`. Their output shows the pages' machines instead of the test's."""

    def __init__(self, pi: Pi, pod: Pod | None = None) -> None:
        self.pi = pi
        self.directory = pi.home / "project"
        self.directory.mkdir()
        self._names = {str(pi.home): "/home/me"}
        self._tunnel = f"127.0.0.1:{first_free_port() + 1}"
        for name in ("pi", "fab"):
            (pi.bin / name).symlink_to(program(name))
        if pod:
            self._names |= {str(pod.home): "/root", str(pod.bin): "/usr/local/bin"}
            self._names |= {str(first_free_port()): "8001"}
            pi.ssh_config(f"Host {ADDRESS}\n  HostName 127.0.0.1\n  IdentityFile {pod.key}\n")

    def __call__(self, command: str) -> str:
        """Return the stdout and stderr of a command. Raises AssertionError if it fails."""
        typed = command.replace("root@", f"{login()}@")
        environment = {**self.pi.environment, "COLUMNS": "120"}
        running = started(typed, environment, self.directory)
        printed = running.communicate(timeout=120)[0].decode()
        assert running.returncode == 0, f"{command} exited with {running.returncode}\n{printed}"
        return self._as_on_the_page(printed)

    def file(self, name: str, text: str) -> Path:
        """Write a file into the directory of the commands. Returns its path."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return path

    def _as_on_the_page(self, text: str) -> str:
        text = text.replace(self._tunnel, TUNNEL).replace("127.0.0.1:4000", DOOR)
        for real, shown in self._names.items():
            text = text.replace(real, shown)
        text = re.sub(r"(?<=, )\d+ days? old", "100 days old", text)
        text = re.sub(r"(?<!VLLM_HOST_IP=)127\.0\.0\.1", ADDRESS, text)  # that one is loopback on every pod
        here = f"{login()}@{gethostname()}"
        text = re.sub(f"{re.escape(here)} *", lambda cell: "me@pc".ljust(len(cell[0])), text)
        text = text.replace(f"{login()}@", "root@")
        text = text.replace(TUNNEL, "127.0.0.1:8001").replace(DOOR, "127.0.0.1:4000")
        return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if not line.startswith(LEFT_OUT))


def started(command: str, environment: Mapping[str, str], directory: Path) -> subprocess.Popen[bytes] | forks.Fork:
    """Start a line of a shell, and pi itself as a fork if it is a plain command. Its stderr goes to stdout."""
    words = [] if set(command) & FOR_A_SHELL else shlex.split(command)
    if words[:1] == ["pi"] and forks.suits(words[1:], environment):
        return forks.Fork(words[1:], environment, directory, stderr=subprocess.STDOUT)
    return subprocess.Popen(
        ["bash", "-c", command],
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def check(page: Path, run: Callable[[str], str], *, from_pod: bool = False) -> None:
    """Raise AssertionError if an output of the page drifted, or write it under `inv docs`."""
    drifted = drift(page, run, from_pod=from_pod)
    if os.environ.get(RENEW):
        return renew(page, drifted)
    for block, fresh in drifted:
        assert block == fresh, f"{page.name} has drifted; run: inv docs"
