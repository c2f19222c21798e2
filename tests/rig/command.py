"""Run the installed `pi` command as a user does, with its own home and config dir."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rig import forks
from tests.rig.patience import patient
from tests.rig.pod import Pod

KEY = "sk-test-0123456789abcdefCANARY"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


ERROR_ID = re.compile(r"^(pi: .*) \[([a-z0-9-]+)\]$", re.MULTILINE)
"""An error's line on stderr if PI_DEBUG is set: its text and its id (`pi.errors`)."""

WAITS = re.compile(r"^(  asking the (pod|machine)|- machine: what it has) \([^()]*\)\n", re.MULTILINE)
"""Lines that pi prints if an answer takes more than 5 s: on a busy machine any may."""


@dataclass(frozen=True)
class Done:
    """The result of a run of pi. `err` is stderr without error ids and waits, `id` the id of the last error, if any."""

    code: int
    out: str
    err: str
    id: str = ""

    @property
    def all(self) -> str:
        return self.out + self.err


def ended(code: int, out: bytes, err: bytes) -> Done:
    """Return the result of a run, with the error ids and the waits removed from stderr."""
    text = WAITS.sub("", err.decode())
    ids = ERROR_ID.findall(text)
    return Done(code, out.decode(), ERROR_ID.sub(r"\1", text), ids[-1][1] if ids else "")


class Pi:
    """`home` is the laptop's HOME, `config` its PI_CONFIG_DIR; tests may change `environment`.

    `printed` collects all output. A test sets `expects_broken_state` if it leaves a broken pods.json.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "laptop"
        self.config = self.home / ".pi"
        self.bin = folder / "laptop-bin"
        self.expects_broken_state = False
        self.printed: list[str] = []
        (self.home / ".ssh").mkdir(mode=0o700, parents=True)
        self.ssh_config("")
        self.bin.mkdir()
        self._give_ssh()
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{SYSTEM_PATH}",
            "PI_CONFIG_DIR": str(self.config),
            "PI_API_KEY": KEY,
            "HF_TOKEN": "none",
            "LANG": "C.UTF-8",
            "PI_DEBUG": "1",
            "PI_SSH_PERSIST": "30",
        }

    @property
    def state_file(self) -> Path:
        return self.config / "pods.json"

    def __call__(self, *words: str, timeout_s: float = 60, **environment: str) -> Done:
        """Run pi and wait for its end."""
        running = self._begun(words, environment)
        try:
            out, err = running.communicate(timeout=patient(timeout_s))
        except subprocess.TimeoutExpired:
            running.kill()
            raise
        return self._noted(ended(running.returncode, out, err))

    def _noted(self, done: Done) -> Done:
        self.printed.append(done.all)
        return done

    def ok(self, *words: str, **options: Any) -> str:
        """Run pi, expect success, and return its stdout."""
        done = self(*words, **options)
        assert done.code == 0, f"pi {' '.join(words)} exited with {done.code}\n{done.out}\n{done.err}"
        return done.out

    def at_terminal(self, *words: str, types: str = "", **environment: str) -> Done:
        """Run pi with a terminal as stdin and stderr, and wait for its end. A user types when pi has asked."""
        ours, theirs = pty.openpty()
        modes = termios.tcgetattr(theirs)
        modes[1] &= ~termios.OPOST  # lines as pi writes them
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        running = self._begun(words, environment, stdin=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
            while chunk := terminal.read(65536):
                shown += chunk
                if shown.endswith((b"? ", b"] ")):
                    os.write(terminal.fileno(), types.encode())
        out, _ = running.communicate(timeout=patient(60))
        return self._noted(ended(running.returncode, out, shown))

    def spawn(self, *words: str, **environment: str) -> Running:
        """Start pi without waiting for its end."""
        return Running(self._begun(words, environment), self._noted)

    def launch(self, *words: str) -> Running:
        """As `spawn`, with a start of Python in any case."""
        return Running(self._begun(words, {}, may_fork=False), self._noted)

    def _begun(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        may_fork: bool = True,
    ) -> subprocess.Popen[bytes] | forks.Fork:
        given = {**self.environment, **environment}
        if may_fork and forks.suits(words, given):
            return forks.Fork(words, given, self.home, stdin, stderr)
        return subprocess.Popen(
            [program("pi"), *words], env=given, cwd=self.home, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr
        )

    def knows(self, *pods: Pod, **fields: Any) -> None:
        """Write a pods.json with these pods, the first one active."""
        entries = {pod.name: {"ssh": pod.ssh, "gpus": [], "models": {}, **fields} for pod in pods}
        self.write({"version": 1, "pods": entries, "active": pods[0].name})

    def write(self, document: Any) -> None:
        self.config.mkdir(mode=0o700, exist_ok=True)
        self.state_file.write_text(json.dumps(document))

    def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.state_file.read_text())
        return document

    def models(self, pod: str) -> dict[str, Any]:
        models: dict[str, Any] = self.state()["pods"][pod]["models"]
        return models

    def ssh_config(self, text: str) -> None:
        """Write the laptop's ~/.ssh/config; its known_hosts is in the same folder, since OpenSSH ignores HOME."""
        users = f"Host *\n  UserKnownHostsFile {self.home}/.ssh/known_hosts\n"
        (self.home / ".ssh" / "config").write_text(f"{text}\n{users}")

    def _give_ssh(self) -> None:
        """Install an `ssh` that reads the laptop's ~/.ssh/config, since OpenSSH ignores HOME."""
        wrapper = self.bin / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "$HOME/.ssh/config" "$@"\n')
        wrapper.chmod(0o755)


class Running:
    """A running pi."""

    def __init__(
        self, process: subprocess.Popen[bytes] | forks.Fork, noted: Callable[[Done], Done] = lambda done: done
    ) -> None:
        self._process = process
        self._noted = noted
        self._out = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def reads(self, text: str) -> str:
        """Wait until pi has printed `text` on stdout. Returns stdout so far."""
        assert self._process.stdout is not None
        while text.encode() not in self._out:
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                break
            self._out += chunk
        assert text.encode() in self._out, f"pi never printed {text!r}:\n{self._out.decode()}\n{self.ends().err}"
        return self._out.decode()

    def first(self) -> None:
        """Wait for the first output on stdout."""
        assert self._process.stdout is not None
        self._out += os.read(self._process.stdout.fileno(), 1)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def ends(self, timeout_s: float = 30) -> Done:
        """Wait for its end."""
        try:
            out, err = self._process.communicate(timeout=patient(timeout_s))
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
            raise AssertionError(f"pi did not end:\n{(self._out + out).decode()}\n{err.decode()}") from None
        return self._noted(ended(self._process.returncode, self._out + out, err))


def program(name: str) -> Path:
    """Return the path of a console script of the Python that runs the tests."""
    return Path(sys.executable).parent / name


def login() -> str:
    return getpass.getuser()
