"""A laptop's keys, certificates and agents, for tests of logins."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.rig import machine

PASSPHRASE = "correct horse"

REQUEST_IDENTITIES, SIGN_REQUEST = b"\x0b", b"\x0d"
FAILURE, IDENTITIES_ANSWER = b"\x05", b"\x0c"


def keygen(*words: str | Path) -> None:
    subprocess.run([machine.program("ssh-keygen"), "-q", *words], check=True, capture_output=True)


def public(key: Path) -> str:
    """Return type and base64 of a key's public half."""
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


class Keys:
    """Keys in one folder. `authorized` are those that a pod's authorized_keys should have.

    `good`, `rsa`, `ecdsa`, `pem`, `pkcs8`: authorised, of several types and file formats.
    `locked`: authorised, with a passphrase and without a .pub file. `open`: authorised, readable by everyone.
    `stranger`: not authorised. `certified`, `expired`, `misnamed`: not authorised, with a certificate of `user_ca`.
    """

    def __init__(self, folder: Path, login: str) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("good", "locked", "open", "stranger", "user_ca", "host_ca", "certified", "expired", "misnamed"):
            keygen("-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
        keygen("-t", "ecdsa", "-N", "", "-C", "ecdsa", "-f", folder / "ecdsa")
        keygen("-t", "rsa", "-b", "2048", "-N", "", "-C", "rsa", "-f", folder / "rsa")
        for name, form in (("pem", "PEM"), ("pkcs8", "PKCS8")):
            shutil.copy(folder / "rsa", folder / name)
            keygen("-p", "-m", form, "-P", "", "-N", "", "-f", folder / name)
        for name, principal, life in (
            ("certified", login, "always:forever"),
            ("expired", login, "20200101:20200102"),
            ("misnamed", "somebody-else", "always:forever"),
        ):
            self.certify(name, "user_ca", "-n", principal, "-V", life)
        self.authorized = [public(folder / name) for name in ("good", "rsa", "ecdsa", "locked", "open")]
        self.unlocked = folder / "for-the-agent"
        shutil.copy(folder / "locked", self.unlocked)
        keygen("-p", "-P", "", "-N", PASSPHRASE, "-f", folder / "locked")
        (folder / "locked.pub").unlink()
        (folder / "open").chmod(0o644)
        (folder / "crlf").write_bytes((folder / "good").read_bytes().replace(b"\n", b"\r\n"))
        (folder / "crlf").chmod(0o600)
        (folder / "empty").touch(mode=0o600)

    def certify(self, name: str, authority: str, *words: str) -> None:
        keygen("-s", self.folder / authority, "-I", name, *words, self.folder / f"{name}.pub")

    @contextmanager
    def agents(self) -> Iterator[dict[str, str]]:
        """Yield the sockets of agents by name: what each holds is in its name."""
        strangers = [self.folder / f"stranger{number}" for number in range(7)]
        for path in strangers:
            keygen("-t", "ed25519", "-N", "", "-C", path.name, "-f", path)
        with ExitStack() as stack:

            def start(*words: str | Path) -> str:
                return stack.enter_context(agent(self.folder, *words))

            sockets = {
                "none": start(),
                "good": start(self.folder / "good"),
                "locked": start(self.unlocked),
                "stranger": start(self.folder / "stranger"),
                "crowd": start(*strangers, self.folder / "good"),
                "certified": start(self.folder / "certified"),
                "confirm": start("-c", self.folder / "good"),
            }
            sockets["token"] = stack.enter_context(token(self.folder, sockets["good"]))
            yield sockets


@contextmanager
def agent(folder: Path, *words: str | Path) -> Iterator[str]:
    """Run an ssh-agent with these keys (words of ssh-add); yield its socket."""
    path = folder / f"agent{len(list(folder.glob('agent*')))}"
    with subprocess.Popen(
        [machine.program("ssh-agent"), "-D", "-a", path], stdout=subprocess.PIPE, env={"SSH_ASKPASS": "/bin/false"}
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        if words:
            environment = {"SSH_AUTH_SOCK": str(path)}
            subprocess.run([machine.program("ssh-add"), "-q", *words], env=environment, check=True, capture_output=True)
        yield str(path)
        running.terminate()


@contextmanager
def token(folder: Path, behind: str) -> Iterator[str]:
    """Yield the socket of an agent that lists a security key first, and never signs with it.

    The other keys are those of the agent `behind`.
    """
    path = folder / "token-agent"
    (folder / "token.pub").write_text(f"sk-ssh-ed25519@openssh.com {b64encode(TOKEN_KEY).decode()} yubikey\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=_serve, args=(listener, behind), daemon=True).start()
        yield str(path)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


TOKEN_KEY = _string(b"sk-ssh-ed25519@openssh.com") + _string(bytes(range(32))) + _string(b"ssh:")


def _serve(listener: socket.socket, behind: str) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answer, args=(client, behind), daemon=True).start()


def _answer(client: socket.socket, behind: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as real, suppress(OSError, EOFError):
        real.connect(behind)
        while True:
            request = _message(client)
            if request[:1] == SIGN_REQUEST and TOKEN_KEY in request:
                client.sendall(_string(FAILURE))
                continue
            real.sendall(_string(request))
            reply = _message(real)
            if request[:1] == REQUEST_IDENTITIES:
                (count,) = struct.unpack(">I", reply[1:5])
                own = _string(TOKEN_KEY) + _string(b"yubikey")
                reply = IDENTITIES_ANSWER + struct.pack(">I", count + 1) + own + reply[5:]
            client.sendall(_string(reply))


def _message(stream: socket.socket) -> bytes:
    (size,) = struct.unpack(">I", _exactly(stream, 4))
    return _exactly(stream, size)


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = stream.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
