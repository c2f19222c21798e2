"""The ssh command a provider shows, or the word `local`, as a typed target; nothing here connects or runs.

A command is read as OpenSSH reads it (ssh.c, readconf.c). What pi acts on becomes a field, what pi does by
itself becomes a notice, and anything else is refused by name.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from getopt import GetoptError, getopt
from typing import Any, TypeVar

from pi.errors import InputError

PASTE = 'paste it as "ssh USER@HOST -p PORT -i KEY"'

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
            self.host = _checked(word, _host, host)

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


# What a value may be: each reading returns the canonical spelling, or raises ValueError with the reason.

UNSAFE = re.compile(r"""['`"$\\;&<>|(){}\[\],*?%]|[^!-~]""")
"""Characters refused in users and hosts: those of valid_hostname (ssh.c), all but printable ASCII, and those
that a shell or ssh's own %-tokens would expand, since ssh hands the names of a jump to both."""

Value = TypeVar("Value")


def _checked(word: str, reading: Callable[[str], Value], text: str) -> Value:
    try:
        return reading(text)
    except ValueError as reason:
        raise InputError("ssh-word-refused", f"{word}: {reason}", PASTE) from None


def _name(text: str) -> str:
    if not text or text.startswith("-") or len(text) > 255:
        raise ValueError("a user or host has 1 to 255 characters and does not begin with -")
    if unsafe := UNSAFE.search(text):
        raise ValueError(f"a user or host holds no {unsafe[0]}")
    return text


def _user(text: str) -> str:
    if ":" in text:
        raise InputError(
            "ssh-password", "the ssh command holds a password or a second :", "pi logs in with a key: " + PASTE
        )
    return _name(text)


def _host(text: str) -> str:
    if text.lower().rstrip(".") == "ssh.runpod.io":
        hint = 'paste the pod\'s "SSH over exposed TCP" command, with an IP address and a port'
        raise InputError("ssh-runpod-gateway", "ssh.runpod.io gives a terminal but runs no commands", hint)
    if "/" in text:
        raise ValueError("a host holds no /")
    if ":" in text:
        return _ipv6(text)
    if re.fullmatch(r"[0-9.]*\.[0-9.]*", text):
        return str(ipaddress.IPv4Address(text))
    return _name(text)


def _ipv6(text: str) -> str:
    address, percent, zone = re.sub(r"^\[(.*)\]$", r"\1", text).partition("%")
    try:
        return str(ipaddress.IPv6Address(address)) + (percent + _name(zone) if percent else "")
    except ValueError:
        raise ValueError("this is not an IPv6 address, and a port is given by -p") from None


def _number(lowest: int, highest: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,6}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"a number from {lowest} to {highest} is needed")
        return str(int(text))

    return read


_port = _number(1, 65535)


def _machine(text: str) -> SshTarget:
    """`[user@]host[:port]`, with or without ssh:// before it."""
    user, at, place = text.removeprefix("ssh://").removesuffix("/").rpartition("@")
    found = re.fullmatch(r"(\[.*\]|[^:]*)(?::(.*))?", place)
    if not found:
        raise ValueError("an IPv6 address stands in brackets here")
    checked_user = _user(user) if at else None
    return SshTarget(_host(found[1]), checked_user, None if found[2] is None else int(_port(found[2])))


def _path(text: str) -> str:
    if not text.strip() or text == "none" or re.search(r'[$`\\"]', text):
        raise ValueError("the path of a key is written out, or begins with ~/")
    return text


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = {"true": "yes", "false": "no"}.get(text.lower(), text.lower())
        if word not in allowed:
            raise ValueError(f"pi honours {' or '.join(allowed)} here")
        return word

    return read


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
    **dict.fromkeys(("Compression", "IdentitiesOnly", "TCPKeepAlive"), _one_of("yes", "no")),
    **dict.fromkeys(("ConnectTimeout", "ServerAliveInterval", "ServerAliveCountMax"), _number(0, 99999)),
    **dict.fromkeys(("HostName", "HostKeyAlias"), _host),
    "AddressFamily": _one_of("any", "inet", "inet6"),
    "IdentityFile": _path,
    "Port": _port,
    "ProxyCommand": _forwarding_jump,
    "ProxyJump": _jumps,
    "StrictHostKeyChecking": _one_of("yes"),
    "User": _user,
}
"""The options that pi acts on (ssh_config(5)), and what each may be; times in seconds."""

AGENT = "pi forwards no agent"

HOST_KEYS = "pi pins host keys itself"

KEY_LOGIN = "pi logs in with a key and asks for no password"

MESSAGES = "pi prints its own messages"

OWN_COMMANDS = "pi runs its own commands"

TERMINAL = "pi asks for a terminal where it needs one"

TUNNELS = "pi opens its own tunnels"

UNUSED_OPTIONS = {
    "ForwardAgent": ("yes|no|true|false", AGENT),
    "BatchMode": ("yes|no", KEY_LOGIN),
    "ExitOnForwardFailure": ("yes|no", TUNNELS),
    "GlobalKnownHostsFile": (".+", HOST_KEYS),
    "LogLevel": ("quiet|fatal|error|info|verbose|debug[123]?", MESSAGES),
    "PasswordAuthentication": ("yes|no", KEY_LOGIN),
    "PreferredAuthentications": ("([a-z-]+,)*publickey(,[a-z-]+)*", KEY_LOGIN),
    "PubkeyAuthentication": ("yes", KEY_LOGIN),
    "RequestTTY": ("yes|no|force|auto", TERMINAL),
    "StrictHostKeyChecking": ("no|off|false|ask|accept-new", HOST_KEYS),
    "UserKnownHostsFile": (".+", HOST_KEYS),
}
"""Options that have no effect with values of this pattern, and why."""

SSH_FLAGS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"
"""All of ssh's flags (ssh.c); a colon follows those with a value."""

SETTING_FLAGS: dict[str, tuple[str, str | None]] = {
    "-4": ("AddressFamily", "inet"),
    "-6": ("AddressFamily", "inet6"),
    "-C": ("Compression", "yes"),
    "-J": ("ProxyJump", None),
    "-i": ("IdentityFile", None),
    "-l": ("User", None),
    "-p": ("Port", None),
}
"""Flags that set an option to this value, or to the flag's own."""

UNUSED_FLAGS = {
    **dict.fromkeys(("-D", "-L", "-R"), TUNNELS),
    **dict.fromkeys(("-A", "-a"), AGENT),
    **dict.fromkeys(("-N", "-f", "-n"), OWN_COMMANDS),
    **dict.fromkeys(("-T", "-t"), TERMINAL),
    **dict.fromkeys(("-q", "-v"), MESSAGES),
    "-k": "pi forwards no Kerberos tickets",
    "-x": "pi forwards no X11",
}
"""Flags that have no effect, and why."""
