"""The ssh command a provider shows, or the word `local`, as a typed target; nothing here connects or runs.

A command is read as OpenSSH reads it (ssh.c, readconf.c). What pi acts on becomes a field, what pi does by
itself becomes a notice, and anything else is refused by name.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from getopt import GetoptError, getopt
from typing import Any, TypeVar

from pi.errors import InputError
from pi.ssh import values
from pi.ssh.flags import OWN_COMMANDS, SETTING_FLAGS, SSH_FLAGS, UNUSED_FLAGS, UNUSED_OPTIONS
from pi.ssh.values import PASTE

LEAVE_OUT = 'leave it out, or put it under a Host in ~/.ssh/config and paste "ssh THAT-HOST"'

ONE_BY_ONE = "register each machine by itself"

ADVICE = {
    "gcloud": "run `gcloud compute config-ssh`, then paste `ssh NAME.ZONE.PROJECT`;"
    " with --tunnel-through-iap put what `gcloud compute ssh NAME --dry-run` prints under a Host in ~/.ssh/config",
    "sshpass": "add your public key to the machine, then paste the ssh command alone",
    "vastai": "paste what `vastai ssh-url ID` prints",
}
"""What to paste in place of another program's command."""


@dataclass(frozen=True)
class SshTarget:
    """A machine behind ssh.

    `host` is a name, an alias of ~/.ssh/config or an IP address without brackets. A `port` or `user` of None
    is what ssh_config says, else 22 and the local user. `identity_files` are as written, `~` and relative
    paths unresolved. Each of `jumps` reads "[user@]host[:port]". `options` are the other options that were
    set, in OpenSSH's spelling. `notices` are sentences for the user, most about a word that has no effect.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity_files: tuple[str, ...] = ()
    jumps: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The target in messages and in -J: "root@1.2.3.4:2222"."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return user + host + (f":{self.port}" if self.port else "")

    def ssh_words(self) -> list[str]:
        """The words after `ssh` that name this target to OpenSSH; none of the pasted text is among them."""
        words = ["-p", str(self.port)] if self.port else []
        words += ["-l", self.user] if self.user else []
        for path in self.identity_files:
            words += ["-i", path]
        words += ["-J", ",".join(self.jumps)] if self.jumps else []
        for name, value in self.options:
            words += ["-o", f"{name}={value}"]
        return [*words, self.host]


@dataclass(frozen=True)
class LocalTarget:
    """This machine itself."""

    @property
    def label(self) -> str:
        """The target in messages."""
        return "this machine"


def parse(text: str) -> SshTarget | LocalTarget:
    """The target named by an ssh command, an ssh:// URL, `user@host -p PORT` or the word `local`.

    Raises InputError for what pi cannot honour, naming the word and what to paste instead.
    """
    line = text.strip()
    if line == "local":
        return LocalTarget()
    words = _words(line)
    if not re.match(r"ssh://|[^-].*@", words[0]):
        program = words.pop(0)
        if program != "ssh":
            raise InputError("ssh-not-a-command", f"{program} is not an ssh command", ADVICE.get(program, PASTE))
    return _target(words)


def of_connection(connection: Any) -> SshTarget:
    """The target of a Fabric connection (`fab -H`): its host, user, port and key files."""
    files = connection.connect_kwargs.get("key_filename") or ()
    files = (files,) if isinstance(files, str) else tuple(files)
    return SshTarget(connection.host, connection.user, connection.port, files)


def _words(line: str) -> list[str]:
    _refuse_lists(line)
    _refuse_passwords(line)
    if not line.isprintable():
        odd = next(character for character in line if not character.isprintable())
        what = "a line break" if odd in "\r\n" else f"the invisible character U+{ord(odd):04X}"
        raise InputError("ssh-bad-character", f"the ssh command holds {what}", "paste it as one line of plain text")
    if escape := re.search(r"\\[@:]", line):
        raise InputError(
            "ssh-markdown", f"{escape[0]} is Markdown for {escape[0][1]}", "paste it without the backslash"
        )
    try:
        words = shlex.split(line)
    except ValueError:
        raise InputError("ssh-open-quote", "a quotation mark in the ssh command is not closed", PASTE) from None
    if not words:
        raise InputError("ssh-empty", "the ssh command is empty", PASTE)
    return words


def _refuse_lists(line: str) -> None:
    try:
        machines = json.loads(line)
    except (ValueError, RecursionError):
        return
    if isinstance(machines, list):
        raise InputError("ssh-list", f"this list names {len(machines)} machines", ONE_BY_ONE)


def _refuse_passwords(line: str) -> None:
    if re.search(r"[^\s/,:]:[^\s/,:@]*@|\bpassword\s*[:=]", line, re.IGNORECASE):
        hint = "add your public key to the machine, then paste the ssh command alone"
        raise InputError("ssh-password", "pi logs in with a key, and the ssh command holds a password", hint)


def _target(words: list[str]) -> SshTarget:
    """The target of the words after `ssh`, read in ssh's own order.

    Flags may stand before and after the destination; the next plain word begins a remote command.
    """
    try:
        before, rest = getopt(words, SSH_FLAGS)
        after, command = getopt(rest[1:], SSH_FLAGS)
    except GetoptError as error:
        raise InputError("ssh-invalid", f"in the ssh command, {error}", LEAVE_OUT) from None
    if not rest:
        raise InputError("ssh-no-machine", "the ssh command names no machine", PASTE)
    draft = _Draft()
    for flag, value in before:
        draft.take_flag(flag, value)
    draft.take_destination(rest[0])
    for flag, value in after:
        draft.take_flag(flag, value)
    draft.take_command(" ".join(command))
    return draft.target()


@dataclass
class _Draft:
    """What the words read so far have set."""

    host: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    identity_files: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def take_flag(self, flag: str, value: str) -> None:
        word = f"{flag} {value}".strip()
        if flag == "-o":
            self.take_option(word, value)
        elif flag in SETTING_FLAGS:
            name, fixed = SETTING_FLAGS[flag]
            self.set(word, name, fixed or value)
        elif flag in UNUSED_FLAGS:
            self.leave_out(word, UNUSED_FLAGS[flag])
        else:
            raise InputError("ssh-word-refused", f"{word} cannot be honoured", LEAVE_OUT)

    def take_option(self, word: str, setting: str) -> None:
        """Read `Key=Value`, `Key = Value` or `Key Value`; the key in any case, the value maybe in quotes."""
        found = re.fullmatch(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*", setting)
        if not found:
            raise InputError("ssh-option-invalid", f"{word} does not read -o Key=Value", PASTE)
        spellings = {name.lower(): name for name in (*READINGS, *UNUSED_OPTIONS)}
        name = spellings.get(found[1].lower(), found[1])
        value = re.sub(r'^"([^"]*)"$', r"\1", found[2])
        unused_values, why = UNUSED_OPTIONS.get(name, ("", ""))
        if unused_values and re.fullmatch(unused_values, value.lower()):
            self.leave_out(f"{name}={value}", why)
        elif name in READINGS:
            self.set(word, name, value)
        else:
            raise InputError("ssh-word-refused", f"{word} cannot be honoured", LEAVE_OUT)

    def take_destination(self, word: str) -> None:
        """Read `[user@]host` or `ssh://[user@]host[:port]`."""
        if word.startswith("ssh://"):
            url = _checked(word, _machine, word)
            if url.user:
                self.set(word, "User", url.user)
            if url.port:
                self.set(word, "Port", str(url.port))
            self.host = url.host
        else:
            user, at, host = word.rpartition("@")
            if at:
                self.set(word, "User", user)
            self.host = _checked(word, values.host, host)

    def take_command(self, command: str) -> None:
        """Leave a remote command out, unless it is a second machine or text for a shell."""
        first = command.partition(" ")[0]
        if "@" in first or re.match(r"ssh$|ssh://|[\d.]+$", first):
            second = first.rpartition("@")[2]
            raise InputError(
                "ssh-two-machines", f"the ssh command names two machines, {self.host} and {second}", ONE_BY_ONE
            )
        if re.search(r"[;&|<>$`(){}\\\"']", command):
            raise InputError("ssh-shell-text", f"{command} is text for a shell", "paste the ssh command without it")
        if command:
            self.leave_out(command, OWN_COMMANDS)

    def set(self, word: str, option: str, text: str) -> None:
        """Give an option its value, where `word` is what the user wrote."""
        value = _checked(word, READINGS[option], text)
        name = "ProxyJump" if option == "ProxyCommand" else option
        if name == "IdentityFile":
            self.identity_files.append(value)
        elif self.settings.setdefault(name, value) != value:
            raise InputError(
                "ssh-set-twice", f"{word}: {name} is {self.settings[name]} already", "leave one of them out"
            )

    def leave_out(self, word: str, why: str) -> None:
        self.notices.append(f"{word} has no effect: {why}")

    def target(self) -> SshTarget:
        options = dict(self.settings)
        user, port, jumps = (options.pop(name, None) for name in ("User", "Port", "ProxyJump"))
        return SshTarget(
            host=self.host,
            user=user,
            port=int(port) if port else None,
            identity_files=tuple(dict.fromkeys(self.identity_files)),
            jumps=tuple(jumps.split(",")) if jumps else (),
            options=tuple(options.items()),
            notices=tuple(dict.fromkeys(self.notices)),
        )


Value = TypeVar("Value")


def _checked(word: str, reading: Callable[[str], Value], text: str) -> Value:
    try:
        return reading(text)
    except ValueError as reason:
        raise InputError("ssh-word-refused", f"{word}: {reason}", PASTE) from None


def _machine(text: str) -> SshTarget:
    """`[user@]host[:port]`, with or without ssh:// before it."""
    user, at, place = text.removeprefix("ssh://").removesuffix("/").rpartition("@")
    found = re.fullmatch(r"(\[.*\]|[^:]*)(?::(.*))?", place)
    if not found:
        raise ValueError("an IPv6 address stands in brackets here")
    checked_user = values.user(user) if at else None
    return SshTarget(values.host(found[1]), checked_user, None if found[2] is None else int(values.port(found[2])))


def _jumps(text: str) -> str:
    jumps = ",".join(_machine(hop).label for hop in text.split(","))
    if jumps.lower() == "none":  # to ssh this means no jump at all, however it was written here
        raise ValueError("a jump names a machine")
    return jumps


def _forwarding_jump(command: str) -> str:
    """The jump that `ssh -W %h:%p [-q] [-p PORT] [user@]host` is, the one command that needs no shell."""
    found = re.fullmatch(r"ssh( .*)? -W (?:%h:%p|\[%h\]:%p)( .*)?", command)
    if not found:
        raise ValueError('the only command pi honours is "ssh -W %h:%p USER@JUMP"')
    jump = _target([word for word in shlex.split((found[1] or "") + (found[2] or "")) if word != "-q"])
    if jump != SshTarget(jump.host, jump.user, jump.port):
        raise ValueError("pi honours a user, host and port here; -J or ~/.ssh/config takes the rest")
    return jump.label


READINGS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("Compression", "IdentitiesOnly", "TCPKeepAlive"), values.one_of("yes", "no")),
    **dict.fromkeys(("ConnectTimeout", "ServerAliveInterval", "ServerAliveCountMax"), values.number(0, 99999)),
    **dict.fromkeys(("HostName", "HostKeyAlias"), values.host),
    "AddressFamily": values.one_of("any", "inet", "inet6"),
    "IdentityFile": values.path,
    "Port": values.port,
    "ProxyCommand": _forwarding_jump,
    "ProxyJump": _jumps,
    "StrictHostKeyChecking": values.one_of("yes"),
    "User": values.user,
}
"""The options that pi acts on (ssh_config(5)), and what each may be; times in seconds."""
