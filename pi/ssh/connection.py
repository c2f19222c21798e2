"""The one way to a pod: an SSH connection, or this machine itself. The only room that imports Fabric's.

A `Link` runs programs and opens tunnels. Stock Fabric checks no host key, hangs on Ctrl+C and reads output
at a crawl, so the connection is opened here with keys checked and time-outs set, and what runs on it is read
straight from its channel.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from pi.errors import HostKeyError, InputError, PiError, UnreachableError
from pi.ssh.link import CHUNK_BYTES, GATEWAY, TUNNELS_PROHIBITED, Link, Silence, Stream
from pi.ssh.sockets import GatheringSocket, GreetedSocket, connect
from pi.ssh.target import LocalTarget, SshTarget

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel, Transport


CONNECT_TIMEOUT_S = 10

EXIT_PATIENCE_S = 2

OPEN_PATIENCE_S = 15

SEND_PATIENCE_S = 60

GRACE_S = 2
"""How long what is on its way to the pod may take to end once it is not wanted any more."""

LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Route:
    """Where to connect and how, with `~/.ssh/config` applied."""

    host: str
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    jumps: tuple[Route, ...] = ()
    proxy_command: str | None = None
    identities_only: bool = False
    strict: bool = False
    """Whether a host that is not known is refused (`StrictHostKeyChecking yes`)."""
    timeout_s: int = CONNECT_TIMEOUT_S

    @property
    def label(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def open_link(
    target: SshTarget | LocalTarget,
    known_hosts: Path,
    *,
    pinned: str = "",
    new_host_key: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Link:
    """Connect to a pod. Raises UnreachableError or HostKeyError, worded for the user.

    `pinned` is the host key of its setup, which `new_host_key` forgets together with what known_hosts has.
    `meanwhile` is called when nothing is left to do here but to wait for the pod: it may begin other work in a thread.
    """
    if isinstance(target, LocalTarget):
        meanwhile()
        return LocalLink()
    route = resolve(target)
    meanwhile()
    if new_host_key:
        from pi.ssh import hostkeys

        hostkeys.forget(known_hosts, hostkeys.known_name(route.host, route.port))
        pinned = ""
    return SshLink(lambda: _open(_connection(route, known_hosts, pinned), route, known_hosts), route.host)


def adopt(connection: Connection, known_hosts: Path, *, pinned: str = "", new_host_key: bool = False) -> Link:
    """A link over a user's own Fabric connection (`fab -H`), with the host key checked as by `open_link`.

    Where it is open already, that comes after its login.
    """
    from pi.ssh import hostkeys

    name = hostkeys.known_name(connection.host, connection.port)
    if new_host_key:
        hostkeys.forget(known_hosts, name)
        pinned = ""

    def connect() -> Connection:
        if connection.is_connected:
            policy = hostkeys.check(known_hosts, name, connection.transport.host_key, pinned=pinned)
            connection.client.set_missing_host_key_policy(policy)
        else:
            connection.connect_kwargs.setdefault("transport_factory", partial(_transport, pinned=pinned))
            hostkeys.prepare(connection.client, known_hosts, pinned=pinned)
            _open(connection, Route(connection.host, connection.port, connection.user), known_hosts)
        return connection

    return SshLink(connect, connection.host)


def resolve(target: SshTarget) -> Route:
    """Apply `~/.ssh/config` as the system's own ssh does (`ssh -G`), or paramiko's reading where it is missing."""
    return _from_words(target.ssh_words(), target.host, target.identity_files)


MOST_JUMPS = 8
"""How many hosts the way to a pod may lead through, each with a ProxyJump of its own."""


def _from_words(words: list[str], host: str, named: tuple[str, ...] = (), depth: int = 0) -> Route:
    """`named` are the key files of the ssh command itself, of which ssh leaves out the missing ones."""
    if depth > MOST_JUMPS:
        raise InputError(
            "jump-loop",
            f"the way to {host} does not end: its jumps lead in a circle",
            "mend ProxyJump in ~/.ssh/config",
        )
    settings = _ssh_g(words) if shutil.which("ssh") else _paramiko_lookup(words, host)
    from pi.ssh.login import why_no_file  # here: what it imports has been imported while ssh worked

    jump = settings.get("proxyjump", ["none"])[0]
    command = settings.get("proxycommand", ["none"])[0]
    files = [Path(_expand(file, settings)).expanduser() for file in settings.get("identityfile", [])]
    missing = [file for file in (Path(name).expanduser() for name in named) if why_no_file(file)]
    timeout = settings.get("connecttimeout", ["none"])[0]
    return Route(
        host=settings["hostname"][0],
        port=int(settings["port"][0]),
        user=settings["user"][0],
        identity_files=tuple(str(file) for file in [*missing, *(file for file in files if not why_no_file(file))]),
        jumps=tuple(_jump(hop, depth + 1) for hop in jump.split(",")) if jump != "none" else (),
        proxy_command=_expand(command, settings) if command != "none" else None,
        identities_only=settings.get("identitiesonly", ["no"])[0] == "yes",
        strict=settings.get("stricthostkeychecking", ["ask"])[0] in ("true", "yes"),
        timeout_s=int(timeout) if timeout.isdigit() and int(timeout) else CONNECT_TIMEOUT_S,
    )


def _jump(hop: str, depth: int) -> Route:
    user, _, address = hop.rpartition("@")
    host, _, port = address.rpartition(":") if address.count(":") == 1 else (address, "", "")
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        port = port.lstrip(":")
    words = (["-l", user] if user else []) + (["-p", port] if port else [])
    return _from_words([*words, "--", host or address], host or address, depth=depth)


def _ssh_g(words: list[str]) -> dict[str, list[str]]:
    ask = ["ssh", "-G", *words]
    with subprocess.Popen(
        ask, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ssh:
        _import_fabric()  # while ssh reads its configuration
        told, refusal = ssh.communicate()
    if ssh.returncode:
        raise InputError(
            "ssh-config-unreadable",
            f"ssh cannot read this command: {(refusal.strip().splitlines() or ['no reason given'])[-1]}",
        )
    settings: dict[str, list[str]] = {}
    for line in told.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, []).append(value)
    return settings


def _import_fabric() -> None:
    """Imports what opens connections; to look through its new classes as garbage would take a tenth of the time."""
    gc.disable()
    try:
        import fabric  # noqa: F401
    finally:
        gc.enable()


def _paramiko_lookup(words: list[str], host: str) -> dict[str, list[str]]:
    from getpass import getuser

    from paramiko import SSHConfig

    config = SSHConfig()
    with contextlib.suppress(OSError):
        config = SSHConfig.from_path(str(Path("~/.ssh/config").expanduser()))
    settings = {key: value if isinstance(value, list) else [value] for key, value in config.lookup(host).items()}
    flags = {"-l": "user", "-p": "port", "-i": "identityfile", "-J": "proxyjump"}
    for flag, value in pairwise(words):
        if flag in flags:
            settings[flags[flag]] = [value]
        elif flag == "-o":
            key, _, setting = value.partition("=")
            settings[key.lower()] = [setting]
    return {"user": [getuser()], "port": ["22"], "hostname": [host], **settings}


def _expand(text: str, settings: dict[str, list[str]]) -> str:
    tokens = {"h": "hostname", "n": "host", "p": "port", "r": "user"}
    for token, key in tokens.items():
        text = text.replace("%" + token, settings.get(key, settings["hostname"])[0])
    return text.replace("%d", str(Path.home())).replace("%%", "%")


def _connection(route: Route, known_hosts: Path, pinned: str = "", gateway: Connection | None = None) -> Connection:
    """A connection that is still to be opened, through `gateway` or else through the route's own jumps or command."""
    from fabric import Config, Connection
    from paramiko import SSHConfig

    from pi.ssh import hostkeys
    from pi.ssh.login import KeyLogin

    for hop in route.jumps if gateway is None else ():
        gateway = _connection_through(hop, gateway, known_hosts)
    connection = Connection(
        host=route.host,
        user=route.user,
        port=route.port,
        config=Config(ssh_config=SSHConfig(), lazy=True),
        gateway=gateway or route.proxy_command or False,
        connect_timeout=route.timeout_s,
        connect_kwargs={
            "auth_strategy": KeyLogin(route.user, route.identity_files, route.identities_only),
            "banner_timeout": route.timeout_s,
            "auth_timeout": 20,
            "channel_timeout": OPEN_PATIENCE_S,
            "transport_factory": partial(_transport, pinned=pinned),
        },
    )
    hostkeys.prepare(connection.client, known_hosts, strict=route.strict, pinned=pinned)
    return connection


def _transport(sock: socket.socket, *, pinned: str, **settings: Any) -> Transport:
    """A transport that asks for a host key of the type that is pinned: a host that has several would show another.

    It prefers AES-GCM; paramiko's own first choice moves two thirds as much in the same time.
    """
    from paramiko import Transport

    transport = Transport(sock, **settings)
    options = transport.get_security_options()
    options.ciphers = sorted(options.ciphers, key=lambda cipher: "-gcm@" not in cipher)
    key_type = pinned.partition(" ")[0]
    wanted = ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)
    options.key_types = sorted(options.key_types, key=lambda offered: offered not in wanted)
    return transport


def _connection_through(hop: Route, gateway: Connection | None, known_hosts: Path) -> Connection:
    """A jump host's open connection. As with OpenSSH, only the first of several jumps goes its own way there."""
    connection = _connection(hop, known_hosts, gateway=gateway)
    try:
        return _open(connection, hop, known_hosts)
    except HostKeyError as error:
        error.replaceable = False  # --new-host-key is about the pod, not about the way to it
        raise


def _open(connection: Connection, route: Route, known_hosts: Path) -> Connection:
    import paramiko

    from pi.ssh import hostkeys
    from pi.ssh.login import LoginRefused

    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    logging.getLogger("paramiko").propagate = False
    where = f"{route.host}:{route.port}"
    greeting: GreetedSocket | None = None
    try:
        if not connection.gateway:
            greeting = connection.connect_kwargs["sock"] = connect(route.host, route.port, route.timeout_s)
        connection.open()
    except paramiko.BadHostKeyException as error:
        name = hostkeys.known_name(route.host, route.port)
        raise hostkeys.refusal(connection.client, known_hosts, name, error.key, error.expected_key) from None
    except LoginRefused as error:
        raise UnreachableError(
            "login-refused", f"{where} refused the login of {route.user} ({error})", error.way_on
        ) from None
    except paramiko.AuthenticationException as error:
        raise UnreachableError("login-refused", f"{where} refused the login of {route.user}: {error}") from None
    except socket.gaierror as error:
        raise UnreachableError("host-unknown", f"{where}: {_lookup_failure(error)}") from None
    except ConnectionRefusedError:
        raise UnreachableError("connection-refused", f"{where} refused the connection") from None
    except TimeoutError:
        raise UnreachableError("connect-timeout", f"{where} did not answer within {route.timeout_s} s") from None
    except PiError:
        raise
    except paramiko.ChannelException as error:
        raise UnreachableError(
            "jump-failed", f"{connection.gateway.host} does not get through to {where} ({error.text})"
        ) from None
    except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
        reason = greeting.objection(route.timeout_s) if greeting else None
        raise UnreachableError(
            "connect-failed", f"{where} {reason}" if reason else f"{where}: {_reason(error, connection)}"
        ) from None
    return connection


def _lookup_failure(error: socket.gaierror) -> str:
    if error.errno == socket.EAI_AGAIN:
        return f"the host name cannot be looked up now ({error.strerror}); is this machine online?"
    return "no such host name"


def _reason(error: BaseException, connection: Connection) -> str:
    transport = connection.client.get_transport()
    is_greeted = transport is not None and transport.remote_version != ""
    if connection.gateway and not is_greeted and not isinstance(error, OSError):
        return "no SSH server answers at the end of the way there (ProxyJump or ProxyCommand)"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if "No existing session" in text:
        return "it greets as an SSH server, and then does not go on"
    return text or type(error).__name__


class UnansweredError(UnreachableError):
    """An open connection on which the pod does not answer any more."""


class SshLink:
    """A link over an open Fabric connection."""

    def __init__(self, connect: Callable[[], Connection], host: str) -> None:
        from pi.ssh import hostkeys

        self.host = host
        self._connect = connect
        self._connection = connect()
        policy = self._connection.client._policy
        self.accepted_key: str | None = getattr(policy, "accepted", None)
        key = self.transport.host_key  # there also when the server has hung up since
        self.host_key = hostkeys.described(key) if key else ""
        self.unread_hosts: dict[str, list[int]] = getattr(policy, "unread", {})

    @property
    def transport(self) -> Transport:
        transport: Transport = self._connection.transport
        return transport

    def run(self, command: str) -> Stream:
        import paramiko

        try:
            channel = self.transport.open_session(timeout=OPEN_PATIENCE_S)
            channel.set_combine_stderr(True)
            channel.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(
                "channel-refused",
                f"{self.host} opened no command channel: {_reason(error, self._connection)}",
                GATEWAY,
            ) from None
        return ChannelStream(channel)

    def dial(self, port: int) -> ChannelLine:
        """See `Link`. A connection that turns out to be lost is opened again: nothing has been asked on it yet."""
        if self.transport.is_active():
            with contextlib.suppress(UnansweredError):
                return self._dialled(port)
        self.reopen()
        return self._dialled(port)

    def _dialled(self, port: int) -> ChannelLine:
        import paramiko

        if isinstance(self.transport.sock, GatheringSocket):  # behind a jump or a proxy nothing gathers
            self.transport.sock.gathers = True
        try:
            channel = self.transport.open_channel(
                "direct-tcpip", (LOCALHOST, port), (LOCALHOST, 0), timeout=OPEN_PATIENCE_S
            )
        except paramiko.ChannelException as error:
            if error.code == TUNNELS_PROHIBITED:
                raise UnreachableError(
                    "tunnels-prohibited",
                    f"the SSH server of {self.host} allows no tunnels",
                    "AllowTcpForwarding yes in its sshd_config",
                ) from None
            raise ConnectionRefusedError(f"nothing listens at port {port} of {self.host}") from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            reason = _reason(error, self._connection)
            self.close()
            raise UnansweredError("connection-lost", f"the connection to the pod was lost ({reason})") from None
        return ChannelLine(channel)

    def reopen(self) -> None:
        self.close()
        self._connection = self._connect()

    def close(self) -> None:
        _hang_up(self.transport)
        gateway = self._connection.gateway
        self._connection.close()
        while gateway and not isinstance(gateway, str):
            gateway.close()
            gateway = gateway.gateway


class ChannelStream:
    """A program at the other end of an SSH channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def send(self, data: bytes) -> None:
        with _as_lost(), _as_os_error():
            _carried_out(self._channel, lambda: _send(self._channel, data), SEND_PATIENCE_S)

    def receive(self, timeout_s: float) -> bytes:
        self._channel.settimeout(timeout_s)
        try:
            with _as_os_error():
                return self._channel.recv(CHUNK_BYTES)
        except TimeoutError:
            raise Silence from None

    def exit_status(self) -> int | None:
        self._channel.status_event.wait(EXIT_PATIENCE_S)
        return self._channel.exit_status if self._channel.exit_status >= 0 else None

    def close(self) -> None:
        _closed(self._channel)


class ChannelLine:
    """A connection through the pod's SSH server to one of its ports, with a socket's methods, time-outs and errors."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._timeout_s: float | None = None

    def settimeout(self, value: float | None) -> None:
        self._timeout_s = value

    def sendall(self, data: bytes) -> None:
        """Raises TimeoutError when not all of it is on its way in time, OSError. The line is of no use after that."""
        with _as_os_error():
            _carried_out(self._channel, lambda: _send(self._channel, data), self._timeout_s, self._channel.close)

    def recv(self, size: int) -> bytes:
        """The next bytes; empty at the end. Raises TimeoutError, OSError."""
        self._channel.settimeout(self._timeout_s)
        with _as_os_error():
            return self._channel.recv(size)

    def close(self) -> None:
        _closed(self._channel)


def _send(channel: Channel, data: bytes) -> None:
    """In pieces: paramiko copies all that is left for each packet, and stops between two when the channel is closed."""
    for at in range(0, len(data), CHUNK_BYTES):
        channel.sendall(data[at : at + CHUNK_BYTES])


def _carried_out(
    channel: Channel,
    write: Callable[[], object],
    timeout_s: float | None,
    give_up: Callable[[], object] = lambda: None,
) -> None:
    """Have it written by a thread of its own, since a signal in the middle of a packet would spoil the connection.

    After a signal or the time-out it is given up. What is still unfinished GRACE_S later costs the connection: nothing
    can follow half a packet. Raises TimeoutError, and what `write` raises.
    """
    done = threading.Event()
    problems: list[Exception] = []

    def attempt(act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as problem:
            problems.append(problem)

    def carry_out() -> None:
        attempt(write)
        done.set()

    channel.settimeout(None)
    try:
        threading.Thread(target=carry_out, name="pi-write", daemon=True).start()
        if not done.wait(timeout_s):
            raise TimeoutError
    except BaseException:
        try:
            threading.Thread(target=attempt, args=(give_up,), name="pi-give-up", daemon=True).start()
            done.wait(GRACE_S)
        finally:
            if not done.is_set():
                _hang_up(channel.get_transport())
        raise
    if problems:
        raise problems[0]


def _closed(channel: Channel) -> None:
    """Have it closed, whatever has become of its connection."""
    with contextlib.suppress(OSError), _as_os_error():
        _carried_out(channel, channel.close, GRACE_S)


def _hang_up(transport: Transport) -> None:
    """End a connection from the outside in: inside a jump host's that is stuck, a farewell would be waited for."""
    from paramiko import Channel

    if isinstance(transport.sock, Channel):
        _hang_up(transport.sock.get_transport())
    transport.close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What paramiko raises of a connection that ends."""
    import paramiko

    try:
        yield
    except (EOFError, paramiko.SSHException) as error:
        raise ConnectionResetError(str(error) or "the connection was lost") from None


class LocalLink:
    """A link to this machine: the same programs, run by a shell here instead of one behind SSH."""

    host = LOCALHOST
    accepted_key: str | None = None
    host_key = ""
    unread_hosts: dict[str, list[int]] = {}  # noqa: RUF012 - never changed

    def run(self, command: str) -> Stream:
        return ProcessStream(
            subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=Path.home(),
                start_new_session=True,
            )
        )

    def dial(self, port: int) -> socket.socket:
        line = socket.create_connection((LOCALHOST, port), timeout=CONNECT_TIMEOUT_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def reopen(self) -> None:
        """Nothing was lost."""

    def close(self) -> None:
        """Nothing is held open."""


class ProcessStream:
    """A program on this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._stdin = cast("IO[bytes]", process.stdin)
        self._stdout = cast("IO[bytes]", process.stdout)

    def send(self, data: bytes) -> None:
        with _as_lost():
            self._stdin.write(data)
            self._stdin.flush()

    def receive(self, timeout_s: float) -> bytes:
        if not select.select([self._stdout], [], [], timeout_s)[0]:
            raise Silence
        return os.read(self._stdout.fileno(), CHUNK_BYTES)

    def exit_status(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(EXIT_PATIENCE_S)
        return None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()
        self._stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


@contextmanager
def _as_lost() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise UnreachableError("connection-lost", "the connection to the pod was lost") from None
