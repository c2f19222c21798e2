"""The way to a pod by the system's own `ssh`: options, warm connections, the first command.

`~/.ssh/config`, agents, certificates and known_hosts count as they do for `ssh` itself. pi adds what it needs: no
questions, its own known_hosts file in front of the user's, keep-alives, and a connection that stays open for the next
command (`ControlMaster`).

Nothing secret and no program is sent before the pod's /bin/sh has answered with a random word.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pi.errors import InputError, PiError, UnreachableError
from pi.on_pod.pace import paced
from pi.ssh import hostkeys, masters, messages
from pi.ssh.jumps import jump_command
from pi.ssh.line import Line
from pi.ssh.local import CONNECT_TIMEOUT_S, Local
from pi.ssh.log import Log
from pi.ssh.process import Stream
from pi.ssh.session import LOGIN_PATIENCE_S, WARM_PATIENCE_S, DeadMaster, Session, first_command
from pi.ssh.settings import read_settings, trust
from pi.ssh.target import LocalTarget, SshTarget

POLL_S = 0.01


class OpenSsh:
    """A way to one pod. `pinned` is the host key of its setup, or "" (see `pi.ssh.hostkeys.shown`).

    `start` begins to connect and returns at once; `ready` waits until the pod's shell has answered.
    """

    def __init__(self, target: SshTarget, folder: Path, pinned: str = "") -> None:
        if not shutil.which("ssh"):
            raise InputError("no-ssh", "this machine has no ssh", "apt-get install openssh-client")
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
        self._session: Session | None = None

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

    def warm_up(self) -> None:
        """Open the warm connection unless it is open. Raises UnreachableError or HostKeyError."""
        if not self._is_warm():
            try:
                self.ready()
            finally:
                self.close()

    def stream(self, command: str) -> Stream:
        """Run a command line of /bin/sh on the pod."""
        session = self._ready_session()
        self._session = None
        session.stream.send(command.encode() + b"\n")
        return session.stream

    def _ready_session(self) -> Session:
        session = self._session = self._session or self._new_session()
        try:
            try:
                log = session.await_word()
            except DeadMaster:
                session.close()
                self._leave_master()
                session = self._session = self._new_session()
                self.remark = "the warm connection to the pod was dead; pi opened a new one"
                log = session.await_word()
            if log:
                self._note_host_key(log)
        except BaseException:
            self.close()
            raise
        return session

    def _note_host_key(self, log: str) -> None:
        """Compare the host key with that of the setup; a warm connection was compared when it was opened."""
        self.host_key = hostkeys.shown(log) or self.pinned
        hostkeys.check_written(log)
        new = hostkeys.accepted(log)
        if self.pinned and new and self.host_key != self.pinned:
            hostkeys.forget(self.known_hosts, self.known_name)
            raise hostkeys.not_pinned(self.known_name, self.host_key, self.pinned)
        self.accepted_key = None if self.pinned else new

    def dial(self, port: int) -> Line:
        """Connect to a port of the pod's loopback.

        Raises ConnectionRefusedError if nothing listens there, UnreachableError or HostKeyError.
        """
        for _ in range(2):
            with Log(self._folder) as log:
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

    def _opens(self, line: Line, log: Log, is_warm: bool) -> bool:
        """Wait until a line's channel is open; return whether it is. A warm connection has less time for it."""
        began, patience_s = time.monotonic(), WARM_PATIENCE_S if is_warm else self.timeout_s + LOGIN_PATIENCE_S
        while not line.has_ended and time.monotonic() - began < paced(patience_s):
            if log.has_channel():
                return True
            if is_warm and log.has_own_connection():
                is_warm, patience_s = False, self.timeout_s + LOGIN_PATIENCE_S
            time.sleep(POLL_S)
        return False

    def words(self, command: str, *, terminal: bool = False) -> list[str]:
        """Return the words that run a command of the login shell on the pod."""
        return [*self._ssh(), *_NO_FORWARDINGS, *(["-tt"] if terminal else []), *self._words, command]

    def shell_words(self) -> list[str]:
        """Return the words that open the login shell on the pod."""
        return [*self._ssh(), *_NO_FORWARDINGS, "-t", *self._words]

    def forward_words(self, ports: Iterable[tuple[int, int]]) -> list[str]:
        """Return the words that forward local ports to ports of the pod's loopback, until their stdin is closed.

        They use a connection of their own: a shared one ends with those who opened it.
        """
        loopback = "127.0.0.1"
        forwards = [word for here, there in ports for word in ("-L", f"{loopback}:{here}:{loopback}:{there}")]
        return [*self._ssh(alone=True), "-o", "ExitOnForwardFailure=no", *forwards, *self._words, "cat >/dev/null"]

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
        if not self._persist_s:
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

    def _new_session(self) -> Session:
        word, log, is_warm = secrets.token_hex(12), Log(self._folder), self._is_warm()
        words = [*self._ssh(log), *_NO_FORWARDINGS, *self._words, first_command(word)]
        return Session(self, Stream(words), log, word, is_warm)

    def _is_warm(self) -> bool:
        return self._control_path is not None and self._control_path.exists()

    def _ssh(self, log: Log | None = None, *, alone: bool = False) -> list[str]:
        """Return `ssh` with pi's options; the user's words follow. `alone` shares no connection."""
        control = None if alone else self._control_path
        options = {**self._options, **(masters.shared(control, self._persist_s) if control else masters.ALONE)}
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
        return masters.socket_path(self._folder, described, self._persist_s)

    @cached_property
    def _persist_s(self) -> int:
        return masters.persist_s(self._folder)

    def _leave_master(self) -> None:
        """Let a dead warm connection take no new commands; others that use it keep it."""
        self._control("stop")

    def _control(self, request: str) -> None:
        if self._control_path is not None:
            masters.control(self._control_path, request, self._words)

    def _refusal(self, port: int) -> Exception:
        """Return why the pod's SSH server opened no tunnel; only a connection of its own says it."""
        with Log(self._folder) as log:
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
