"""The way to a pod by the system's own `ssh`: options, warm connections, the first command.

`~/.ssh/config`, agents, certificates and known_hosts count as they do for `ssh` itself. pi adds what it needs: no
questions, its own known_hosts file in front of the user's, keep-alives, and a connection that stays open for the next
command (`ControlMaster`).

Nothing secret and no program is sent before the pod's /bin/sh has answered with a random word.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pi.errors import InputError, PiError, UnreachableError
from pi.on_pod.pace import paced
from pi.on_pod.redact import NAMES
from pi.ssh import hostkeys, messages
from pi.ssh.jumps import jump_command
from pi.ssh.line import Line
from pi.ssh.process import Silence, Stream
from pi.ssh.settings import escaped, read_settings, trust
from pi.ssh.target import LocalTarget, SshTarget

CONNECT_TIMEOUT_S = 10

LOGIN_PATIENCE_S = 30
"""How long a login may take after the connection is there: key exchange, keys, agents that ask."""

START_UP_S = 30
"""How long the login shell's start-up files may take."""

WARM_PATIENCE_S = 3
"""How long a warm connection may take to open a channel; after that it is dead."""

PERSIST_S = 60
"""How long a warm connection stays open after its last command. PI_SSH_PERSIST changes it; 0 switches it off."""

UNSHARED_PERSIST_S = 10
"""How long a connection outlives its command if warm connections are off and pi is killed before it closes it."""

MAX_SOCKET_PATH = 84
"""A Unix socket's path has at most 104 bytes (macOS), and ssh appends 17 while it creates one."""

MAX_NOISE = 64 * 1024
"""Bytes kept of what start-up files print."""

MAX_OUTPUT = 16 * 1024 * 1024
"""Bytes that start-up files may print."""

ANSWER = "pi-answers-"

BARE_ENV = " ".join(["/usr/bin/env", *(f"-u {name}" for name in NAMES)])
"""Takes away secrets that the login shell exports: the environment of a process can be read while it lives."""

SHELL = "pi-asks-"

ANSWER_S = 2
"""How long another shell may take to say its name."""

OPENED = r"master session id|Sending command|channel \d+: new direct-tcpip"
"""What ssh's log has when the server has opened a channel."""

OWN_CONNECTION = r"debug1: (?:Connecting to|Executing proxy command)"
"""What ssh's log has when it uses no warm connection, for example since the socket was left by a dead process."""

POLL_S = 0.01


class OpenSsh:
    """A way to one pod. `pinned` is the host key of its setup, or "" (see `pi.ssh.hostkeys.shown`).

    `start` begins to connect and returns at once; `ready` waits until the pod's shell has answered.
    """

    def __init__(self, target: SshTarget, folder: Path, pinned: str = "") -> None:
        if not shutil.which("ssh"):
            raise InputError("no-ssh", "there is no ssh on this machine", "apt-get install openssh-client")
        self._target = target
        self._words = replace(target, jumps=()).ssh_words()
        self._folder = folder
        self._settings = read_settings(target.ssh_words())
        self.pinned = pinned
        self.host = self._setting("hostname")
        self.port = int(self._setting("port"))
        self.user = self._setting("user")
        self.host_key = ""
        self.accepted_key: str | None = None
        self.remark = ""
        """What is unusual about the connection, for the user."""
        self._session: _Session | None = None

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def known_name(self) -> str:
        """The name of the host in known_hosts files."""
        alias = self._setting("hostkeyalias", "")
        return alias or hostkeys.name_of(self.host, self.port)

    @property
    def known_hosts(self) -> Path:
        return self._folder / "known_hosts"

    def start(self, *, fresh: bool = False) -> None:
        """Begin to connect, over a warm connection if there is one and it need not be a `fresh` one."""
        if fresh and self._is_warm():
            self._leave_master()
        self._session = self._session or self._new_session()

    def ready(self) -> None:
        """Wait until the pod's shell has answered. Raises UnreachableError or HostKeyError."""
        self._ready_session()

    def stream(self, command: str) -> Stream:
        """Run a command line of /bin/sh on the pod."""
        session = self._ready_session()
        self._session = None
        session.stream.send(command.encode() + b"\n")
        return session.stream

    def _ready_session(self) -> _Session:
        session = self._session = self._session or self._new_session()
        try:
            try:
                session.await_word()
            except _DeadMaster:
                session.close()
                self._leave_master()
                session = self._session = self._new_session()
                self.remark = "the warm connection to the pod was dead; pi opened a new one"
                session.await_word()
        except BaseException:
            self.close()
            raise
        return session

    def dial(self, port: int) -> Line:
        """Connect to a port of the pod's loopback.

        Raises ConnectionRefusedError if nothing listens there, UnreachableError or HostKeyError.
        """
        for _ in range(2):
            with _Log(self._folder) as log:
                is_warm = self._is_warm()
                line = Line([*self._ssh(log), "-W", f"127.0.0.1:{port}", *self._words])
                try:
                    if self._opens(line, log, is_warm):
                        return line
                except BaseException:
                    line.close()
                    raise
            is_refused = line.has_ended
            line.close()
            if is_refused:
                break
            self._leave_master()
        raise self._refusal(port)

    def _opens(self, line: Line, log: _Log, is_warm: bool) -> bool:
        """Wait until a line's channel is open; return whether it is. A warm connection has less time for it."""
        began, patience_s = time.monotonic(), WARM_PATIENCE_S if is_warm else self.timeout_s + LOGIN_PATIENCE_S
        while not line.has_ended and time.monotonic() - began < paced(patience_s):
            if re.search(OPENED, text := log.text()):
                return True
            if is_warm and re.search(OWN_CONNECTION, text):
                is_warm, patience_s = False, self.timeout_s + LOGIN_PATIENCE_S
            time.sleep(POLL_S)
        return False

    def words(self, command: str, *, terminal: bool = False) -> list[str]:
        """Return the words that run a command of the login shell on the pod."""
        return [*self._ssh(), *_NO_FORWARDINGS, *(["-tt"] if terminal else []), *self._words, command]

    def command_as(self, user: str) -> str:
        """Return the ssh command of this way for another user."""
        return shlex.join(["ssh", *replace(self._target, user=user).ssh_words()])

    def forget_host_key(self) -> None:
        """Drop the host key that pi's own file has, and the pin."""
        hostkeys.forget(self.known_hosts, self.known_name)
        self.pinned = ""

    def close(self) -> None:
        """End the session that waits for a command. The connection stays for the next one, if that is on."""
        if self._session:
            self._session.close()
            self._session = None
        if not persist_s():
            self._control("exit")

    def _setting(self, name: str, default: str | None = None) -> str:
        values = self._settings.get(name)
        if values is None and default is None:
            raise InputError("ssh-config-unreadable", f"ssh does not say its {name} for {self._words[-1]}")
        return values[0] if values else str(default)

    @cached_property
    def timeout_s(self) -> int:
        value = self._setting("connecttimeout", "none")
        return int(value) if value.isdigit() and int(value) else CONNECT_TIMEOUT_S

    def _new_session(self) -> _Session:
        word = secrets.token_hex(12)
        # the outer shell may be any login shell: without single quotes inside, each passes this on unchanged
        command = f"exec {BARE_ENV} /bin/sh -c 'echo; echo {ANSWER}{word}; exec 2>&1; IFS= read -r c && eval \"$c\"'"
        log = _Log(self._folder)
        is_warm = self._is_warm()
        words = [*self._ssh(log), *_NO_FORWARDINGS, *self._words, command]
        return _Session(self, Stream(words), log, word, is_warm)

    def _is_warm(self) -> bool:
        return self._control_path is not None and self._control_path.exists()

    def _ssh(self, log: _Log | None = None, *, alone: bool = False) -> list[str]:
        """Return `ssh` with pi's options; the user's words follow. `alone` shares no connection."""
        control = None if alone else self._control_path
        options = {**self._options, **(_shared(control) if control else _ALONE)}
        words = ["ssh", *(["-v", "-E", str(log.path)] if log else ["-q"])]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return words

    @cached_property
    def _options(self) -> dict[str, str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(self.timeout_s),
            **trust(self._settings, self.known_hosts),
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "RequestTTY": "no",
            "RemoteCommand": "none",
        }
        if self._setting("serveraliveinterval", "0") == "0":
            options |= {"ServerAliveInterval": "5", "ServerAliveCountMax": "3"}
        for setting, name, value in (
            ("sessiontype", "SessionType", "default"),
            ("stdinnull", "StdinNull", "no"),
            ("forkafterauthentication", "ForkAfterAuthentication", "no"),
        ):
            if self._setting(setting, value) != value:
                options[name] = value
        if self.pinned:
            options["HostKeyAlgorithms"] = self._pinned_first()
        if (hops := self._setting("proxyjump", "none")) != "none":
            options["ProxyCommand"] = jump_command(hops.split(","), self.known_hosts, self.timeout_s)
        return options

    def _pinned_first(self) -> str:
        """Return the host key algorithms of the user, those for the key of the setup first."""
        kind = self.pinned.partition(" ")[0]
        pinned = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa") if kind == "ssh-rsa" else (kind,)
        names = self._setting("hostkeyalgorithms").split(",")
        return ",".join(sorted(names, key=lambda name: name.partition("-cert-v01@")[0] not in pinned))

    @cached_property
    def _control_path(self) -> Path | None:
        """The socket of this way's connection, which the next command uses too, unless warm connections are off."""
        described = repr((self._words, sorted(self._settings.items()), self._options, self._folder))
        name = hashlib.sha256(described.encode()).hexdigest()[:16] if persist_s() else secrets.token_hex(8)
        for folder in (self._folder / "ssh", _runtime_folder()):
            path = folder / name
            if len(os.fsencode(path)) <= MAX_SOCKET_PATH and _is_private(folder):
                return path
        return None

    def _leave_master(self) -> None:
        """Let a dead warm connection take no new commands; others that use it keep it."""
        self._control("stop")

    def _control(self, request: str) -> None:
        """Tell the process that holds the connection to "stop" sharing it, or to "exit"."""
        path = self._control_path
        if path is None or not path.exists():
            return
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            subprocess.run(
                ["ssh", "-q", "-O", request, "-o", f"ControlPath={escaped(path)}", *self._words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=1,
            )
        path.unlink(missing_ok=True)

    def _refusal(self, port: int) -> Exception:
        """Return why the pod's SSH server opened no tunnel; only a connection of its own says it."""
        with _Log(self._folder) as log:
            words = [*self._ssh(log, alone=True), "-W", f"127.0.0.1:{port}", *self._words]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.timeout_s)
            text = log.text()
        if "administratively prohibited" in text:
            return UnreachableError(
                "tunnels-prohibited",
                f"the SSH server of {self.host} allows no tunnels",
                "set AllowTcpForwarding yes in its sshd_config",
            )
        if "connect failed" in text or "Authenticated to" in text:
            return ConnectionRefusedError(f"nothing listens on port {port} of {self.host}")
        return self.failure(text)

    def failure(self, text: str) -> PiError:
        """Return the error for what ssh wrote about a connection that failed."""
        refused = hostkeys.refusal(text, self.known_hosts, self.known_name)
        return refused or messages.explained(messages.Attempt(self.where, self.timeout_s, text))


class _DeadMaster(Exception):
    """A warm connection opened no channel in time."""


class _Session:
    """One `ssh` whose shell on the pod waits for a command."""

    def __init__(self, way: OpenSsh, stream: Stream, log: _Log, word: str, is_warm: bool) -> None:
        self.stream = stream
        self._way = way
        self._log = log
        self._mark = f"{ANSWER}{word}\n".encode()
        self._is_warm = is_warm
        self._began = time.monotonic()
        self._answered = False

    def await_word(self) -> None:
        """Read until the pod's shell answers with the word. Raises UnreachableError, HostKeyError or _DeadMaster."""
        if self._answered:
            return
        noise = b""
        channel_at, size = 0.0, 0
        while self._mark not in noise:
            chunk = self._heard(0.2, noise)
            noise, size = (noise + chunk)[-MAX_NOISE:], size + len(chunk)
            if size > MAX_OUTPUT:
                raise messages.shell_flood(self._way.where, _text(noise), MAX_OUTPUT)
            channel_at = channel_at or self._channel_opened()
            self._check_time(channel_at, noise)
        self._answered = True
        self._check_pin(self._log.text())
        self._log.close()

    def _heard(self, patience_s: float, before: bytes) -> bytes:
        """Return the next output, empty if there is none in time. Raises PiError at the end."""
        try:
            chunk = self.stream.receive(patience_s)
        except Silence:
            return b""
        if not chunk:
            raise self._ended(before)
        return chunk

    def _channel_opened(self) -> float:
        return time.monotonic() if re.search(OPENED, self._log.text()) else 0.0

    def _check_time(self, channel_at: float, noise: bytes) -> None:
        now = time.monotonic()
        if not channel_at:
            is_warm = self._is_warm and not re.search(OWN_CONNECTION, self._log.text())
            if is_warm and now - self._began > paced(WARM_PATIENCE_S):
                raise _DeadMaster
            patience_s = self._way.timeout_s + LOGIN_PATIENCE_S
            if now - self._began > paced(patience_s):
                raise UnreachableError(
                    "login-slow", f"{self._way.where} accepted the connection, but no login within {patience_s} s"
                )
        elif self._mark not in noise and now - channel_at > paced(START_UP_S):
            raise self._slow_start(noise)

    def _slow_start(self, noise: bytes) -> UnreachableError:
        """Return why start-up files do not end: another shell answers a question, and one that waits for input ends."""
        self.stream.send(f"echo {SHELL}$0\n".encode())
        heard, deadline = b"", time.monotonic() + paced(ANSWER_S)
        while time.monotonic() < deadline and self._mark not in heard and SHELL.encode() not in heard:
            heard += self._heard(0.1, noise + heard)
        return messages.shell_silence(
            self._way.where, _text(noise), START_UP_S, _text(heard), waits=self._mark in heard
        )

    def _ended(self, noise: bytes) -> PiError:
        status = self.stream.exit_status()
        log, text = self._log.text(), _text(noise)
        if status == 255 and not re.search(OPENED, log):
            return self._way.failure(f"{log}\n{text}")
        return messages.shell_failure(self._way.where, text, status, self._way.command_as)

    def _check_pin(self, log: str) -> None:
        """Compare the host key with that of the setup; a warm connection was compared when it was opened."""
        way = self._way
        way.host_key = hostkeys.shown(log) or way.pinned
        hostkeys.check_written(log)
        new = hostkeys.accepted(log)
        if way.pinned and new and way.host_key != way.pinned:
            hostkeys.forget(way.known_hosts, way.known_name)
            raise hostkeys.not_pinned(way.known_name, way.host_key, way.pinned)
        way.accepted_key = None if way.pinned else new

    def close(self) -> None:
        self.stream.close()
        self._log.close()


class Local:
    """The way to this machine itself: the same programs, run by a shell here."""

    host = "127.0.0.1"
    port = 0
    where = "this machine"
    host_key = ""
    accepted_key: str | None = None
    remark = ""
    user = ""

    def start(self, *, fresh: bool = False) -> None:
        """Nothing needs time to connect."""

    def ready(self) -> None:
        """A shell is always there."""

    def stream(self, command: str) -> Stream:
        return Stream(["/bin/sh", "-c", command], str(Path.home()))

    def dial(self, port: int) -> socket.socket:
        line = socket.create_connection((self.host, port), timeout=CONNECT_TIMEOUT_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def words(self, command: str, *, terminal: bool = False) -> list[str]:
        return ["/bin/sh", "-c", command]

    def forget_host_key(self) -> None:
        """This machine has none."""

    def close(self) -> None:
        """Nothing is open."""


Way = OpenSsh | Local


def way_to(target: SshTarget | LocalTarget, folder: Path, pinned: str = "") -> Way:
    """Return the way to a pod; `folder` is pi's config dir."""
    return Local() if isinstance(target, LocalTarget) else OpenSsh(target, folder, pinned)


def address(target: SshTarget) -> tuple[str, int, str]:
    """Return host, port and user of a target, with `~/.ssh/config` applied."""
    settings = read_settings(target.ssh_words())
    return settings["hostname"][0], int(settings["port"][0]), settings["user"][0]


_NO_FORWARDINGS = ("-o", "ClearAllForwardings=yes")
"""Not for `ssh -W`, which would have none either."""

_ALONE = {"ControlMaster": "no", "ControlPath": "none"}


def _shared(path: Path) -> dict[str, str]:
    persist = persist_s() or UNSHARED_PERSIST_S
    return {"ControlMaster": "auto", "ControlPath": escaped(path), "ControlPersist": str(persist)}


def persist_s() -> int:
    """Return how long a warm connection stays, in seconds; 0 if there are none."""
    text = os.environ.get("PI_SSH_PERSIST", str(PERSIST_S))
    if not re.fullmatch(r"\d{1,5}", text):
        raise InputError("persist-invalid", f"PI_SSH_PERSIST {text!r} is not a number of seconds", "0 switches it off")
    return int(text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _runtime_folder() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"pi-{os.getuid()}"


def _is_private(folder: Path) -> bool:
    """Make a folder that only this user can enter; return whether it is one."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return False


class _Log:
    """A private file for ssh's messages, which goes when it has been read."""

    def __init__(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor, name = tempfile.mkstemp(prefix=".ssh-", dir=folder)
        except OSError:
            descriptor, name = tempfile.mkstemp(prefix="pi-ssh-")
        os.close(descriptor)
        self.path = Path(name)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self) -> str:
        try:
            return self.path.read_text("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
