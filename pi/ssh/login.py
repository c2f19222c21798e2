"""Logging in with a key: which keys are tried, in which order, and what came of each."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from paramiko import (
    Agent,
    AuthenticationException,
    BadAuthenticationType,
    PasswordRequiredException,
    PKey,
    SSHException,
    Transport,
)


class LoginRefused(Exception):
    """No key opened the pod. `tried` says what came of each; `way_on` is the next step, where there is a clear one."""

    def __init__(self, tried: list[str], way_on: str | None) -> None:
        super().__init__("; ".join(tried))
        self.tried = tried
        self.way_on = way_on


class KeyLogin:
    """An authentication strategy of paramiko: the key files, then the agent's keys; nothing is ever asked for.

    With `identities_only`, of the agent's keys only those count whose public half lies beside a key file, or is it.
    """

    def __init__(self, user: str, files: tuple[str, ...], identities_only: bool) -> None:
        self._user = user
        self._files = files
        self._identities_only = identities_only
        self._tried: list[str] = []
        self._way_on: str | None = None

    def authenticate(self, transport: Transport) -> None:
        """Log in. Raises LoginRefused."""
        for label, key in self._keys():
            try:
                further = transport.auth_publickey(self._user, key)
            except BadAuthenticationType as error:
                self._tried.append(f"{label}: not asked for, the server takes {', '.join(error.allowed_types)} only")
                break
            except AuthenticationException as error:
                said = str(error).rstrip(".")
                self._tried.append(f"{label}: {'refused' if said == 'Authentication failed' else said}")
            except (SSHException, EOFError):
                self._tried.append(f"{label}: the server hung up")
                break
            else:
                if not further:
                    return
                self._tried.append(f"{label}: taken, but the server asks for {', '.join(further)} besides")
                break
            if not transport.is_active():
                self._tried.append("the server hung up after that many keys")
                self._way_on = "name the one key that opens it: -i KEY -o IdentitiesOnly=yes"
                break
        raise LoginRefused(self._tried, self._way_on)

    def _keys(self) -> Iterator[tuple[str, PKey]]:
        for file in self._files:
            key = self._loaded(file)
            if key is not None:
                yield file, key
        yield from self._agent_keys()
        if not self._files:
            self._tried.append("no key file")
            self._way_on = self._way_on or "name the key with -i, or give it to the agent: ssh-add KEY"

    def _loaded(self, file: str) -> PKey | None:
        """The key of a file, or None once it is noted why there is none."""
        path = Path(file)
        absence = why_no_file(path)
        if absence:
            self._missed(f"{file}: {absence}", "check the -i of the ssh command")
        elif public_half(path):
            private = file.removesuffix(".pub")
            self._missed(f"{file}: this is the public key", f"name the private one: -i {private}")
        else:
            try:
                return PKey.from_path(file)
            except (PasswordRequiredException, TypeError):  # what `cryptography` raises for a missing passphrase
                self._missed(f"{file}: needs its passphrase", f"give it to the agent: ssh-add {file}")
            except Exception as error:  # whatever the parsers of key formats make of a file
                reason = (error.strerror if isinstance(error, OSError) else None) or "no private key can be read in it"
                self._missed(f"{file}: {reason}", "check the -i of the ssh command")
        return None

    def _missed(self, what: str, way_on: str) -> None:
        self._tried.append(what)
        self._way_on = self._way_on or way_on

    def _agent_keys(self) -> Iterator[tuple[str, PKey]]:
        if not os.environ.get("SSH_AUTH_SOCK"):
            self._tried.append("no agent")
            return
        try:
            agent = Agent()
            keys = agent.get_keys()
        except (SSHException, OSError) as error:
            self._tried.append(f"agent: {error}")
            return
        if getattr(agent, "_conn", None) is None:
            self._tried.append("agent: not running")
        elif not keys:
            self._tried.append("agent: holds no keys")
        wanted = {public_half(Path(name)) for file in self._files for name in (file, f"{file}.pub")}
        for key in keys:
            if not self._identities_only or key.asbytes() in wanted:
                yield f"agent's {getattr(key, 'comment', '') or key.get_name()}", key


def why_no_file(path: Path) -> str | None:
    """Why there is no file to read a key from, such as a folder that may not be entered; None where there is one."""
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else "this is no file"
    except (FileNotFoundError, NotADirectoryError):
        return "there is no such file"
    except OSError as error:
        return error.strerror or type(error).__name__


def public_half(path: Path) -> bytes | None:
    """The public key that a file such as id_ed25519.pub holds, as SSH sends it; None where it holds none."""
    try:
        words = path.read_text("utf-8").split()
        return base64.b64decode(words[1], validate=True) if words[0].startswith(("ssh-", "ecdsa-", "sk-")) else None
    except (OSError, UnicodeDecodeError, IndexError, binascii.Error):
        return None
