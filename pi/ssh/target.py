"""The ssh command a provider shows, or the word `local`, as a typed target; nothing here connects or runs.

A command is read as OpenSSH reads it (ssh.c, readconf.c). What `ssh` gets becomes a field, what pi does by itself
becomes a notice. Options that run a program or load a library are refused by name: a pods.json of a colleague must not
run anything. pi.ssh.options has the tables.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from getopt import GetoptError, getopt
from pathlib import Path
from typing import Any, TypeVar

from pi.errors import InputError
from pi.ssh import options
from pi.ssh.options import Machine

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
    paths unresolved. Each of `jumps` reads "[user@]host[:port]". `options` are the other options for `ssh`, in
    its spelling. `notices` are sentences for the user, most about a word that has no effect.
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
        return Machine(self.host, self.user, self.port).label

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


def anchored(text: str) -> str:
    """Return the command with absolute paths for its keys and certificates that lie in the working directory.

    It then means the same from everywhere. Raises InputError like parse.
    """
    found = parse(text)
    if isinstance(found, LocalTarget):
        return text

    def absolute(path: str) -> str:
        return str(Path(path).absolute()) if Path(path).is_file() else path

    there = replace(
        found,
        identity_files=tuple(map(absolute, found.identity_files)),
        options=tuple((name, absolute(value) if name in options.FILES else value) for name, value in found.options),
    )
    return text if there == found else shlex.join(["ssh", *there.ssh_words()])


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
        before, rest = getopt(words, options.FLAGS)
        after, command = getopt(rest[1:], options.FLAGS)
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
    repeated: list[tuple[str, str]] = field(default_factory=list)
    identity_files: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def take_flag(self, flag: str, value: str) -> None:
        word = f"{flag} {value}".strip()
        if flag == "-o":
            self.take_option(word, value)
        elif flag == "-i":
            self.identity_files.append(_checked(word, options.key_path, value))
        elif flag in options.OF_FLAGS:
            name, fixed = options.OF_FLAGS[flag]
            self.set(word, name, fixed or value, overrides=flag in options.OVERRIDING)
        elif flag in options.UNUSED_FLAGS:
            self.leave_out(word, options.UNUSED_FLAGS[flag])
        else:
            raise InputError("ssh-word-refused", f"pi does not support {word}", LEAVE_OUT)

    def take_option(self, word: str, setting: str) -> None:
        """Read `Key=Value`, `Key = Value` or `Key Value`; the key in any case, the value maybe in quotes."""
        found = re.fullmatch(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*", setting)
        if not found:
            raise InputError("ssh-option-invalid", f"{word} does not read -o Key=Value", PASTE)
        name, value = options.spelled(found[1]), found[2]
        if why := options.unused(name, value):
            self.leave_out(f"{name}={value}", why)
        elif name in READINGS:
            self.set(word, name, re.sub(r'^"([^"]*)"$', r"\1", value))
        elif name in options.PASSED_ON:
            self.set(word, name, value)
        else:
            raise InputError("ssh-word-refused", f"pi does not support {word}", LEAVE_OUT)

    def take_destination(self, word: str) -> None:
        """Read `[user@]host` or `ssh://[user@]host[:port]`."""
        if word.startswith("ssh://"):
            url = _checked(word, options.machine, word)
            if url.user:
                self.set(word, "User", url.user)
            if url.port:
                self.set(word, "Port", str(url.port))
            self.host = url.host
        else:
            user, at, host = word.rpartition("@")
            if at:
                self.set(word, "User", user)
            self.host = _checked(word, options.host, host)

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
            self.leave_out(command, options.OWN_COMMANDS)

    def set(self, word: str, option: str, text: str, *, overrides: bool = False) -> None:
        """Give an option its value, where `word` is what the user wrote. The first counts, or one that overrides."""
        value = _checked(word, READINGS.get(option, options.passed_on), text)
        name = "ProxyJump" if option == "ProxyCommand" and value != "none" else option
        if name == "IdentityFile" and options.is_plain_path(value):
            self.identity_files.append(value)
        elif name in options.REPEATED:
            self.repeated.append((name, value))
        elif (before := self.settings.setdefault(name, value)) != value:
            if word.startswith("-J"):
                raise InputError("ssh-set-twice", f"{word}: {name} is {before} already", "leave one of them out")
            if overrides:
                self.settings[name] = value
                self.leave_out(f"{name}={before}", f"{word} comes later, and ssh takes the last")
            else:
                self.leave_out(word, f"{name} is {before} already, and ssh takes the first")

    def leave_out(self, word: str, why: str) -> None:
        self.notices.append(f"{word} has no effect: {why}")

    def target(self) -> SshTarget:
        settings = dict(self.settings)
        user, port = settings.pop("User", None), settings.pop("Port", None)
        jumps = "" if settings.get("ProxyJump", "none") == "none" else settings.pop("ProxyJump")
        return SshTarget(
            host=self.host,
            user=user,
            port=int(port) if port else None,
            identity_files=tuple(dict.fromkeys(self.identity_files)),
            jumps=tuple(jumps.split(",")) if jumps else (),
            options=(*settings.items(), *dict.fromkeys(self.repeated)),
            notices=tuple(dict.fromkeys(self.notices)),
        )


Value = TypeVar("Value")


def _checked(word: str, reading: Callable[[str], Value], text: str) -> Value:
    try:
        return reading(text)
    except ValueError as reason:
        raise InputError("ssh-word-refused", f"{word}: {reason}", PASTE) from None


def _forwarding_jump(command: str) -> str:
    """Return the jump of `ssh -W %h:%p [-q] [-p PORT] [user@]host`, the one command that needs no shell."""
    if command == "none":
        return command
    found = re.fullmatch(r"ssh( .*)? -W (?:%h:%p|\[%h\]:%p)( .*)?", command)
    if not found:
        raise ValueError('the only command pi honours is "ssh -W %h:%p USER@JUMP"')
    jump = _target([word for word in shlex.split((found[1] or "") + (found[2] or "")) if word != "-q"])
    if jump != SshTarget(jump.host, jump.user, jump.port):
        raise ValueError("pi honours a user, host and port here; -J or ~/.ssh/config takes the rest")
    return jump.label


READINGS: dict[str, Callable[[str], str]] = {**options.READINGS, "ProxyCommand": _forwarding_jump}
"""Options whose value pi checks, and the check: it returns the canonical spelling, or raises ValueError."""
