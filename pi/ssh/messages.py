"""What OpenSSH says when it cannot connect, in pi's words.

`ssh` runs with `-v` and a log of its own, so that one run tells what became of each key. Its messages are the same in
every language.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from pi.errors import UnreachableError
from pi.ssh.keys import key_fates, key_hint
from pi.text import one_line

GATEWAY = (
    "if this is a provider's SSH gateway, it runs no commands: use the pod's own address (\"SSH over exposed TCP\")"
)


@dataclass(frozen=True)
class Message:
    """A message of OpenSSH, what it means, and what to do. `{0}` is the first group of the pattern."""

    id: str
    pattern: str
    means: str
    hint: str | None = None


SILENT = "{where} accepted the connection, but did not answer as an SSH server within {timeout} s"

AT = r"connect to (?:host|address) (\S+) port (\d+): "

PROXY_GONE = r"Connection (?:closed by|reset by|to) UNKNOWN port 65535(?:: Broken pipe)?"
"""A ProxyCommand that ends before ssh's greeting breaks the pipe to it."""

MESSAGES = (
    Message(
        "ssh-config-permissions",
        r"Bad owner or permissions on (.+)",
        "ssh does not read {0}: others may write it, or it belongs to somebody else",
        "chmod 600 {0}",
    ),
    Message(
        "ssh-config-invalid",
        r"(\S+: line \d+: Bad configuration option: \S+|\S+ line \d+: .+)\n.*terminating, \d+ bad configuration",
        "ssh cannot read {0}",
        "change that line of your ssh configuration",
    ),
    Message(
        "proxy-program-missing",
        r"(?:sh: \d+|line \d+|sh): (?:exec: )?([^\s:]+): (?:command )?not found",
        "the program {0} of the ProxyCommand for {where} is not installed here",
        "install it, or change ProxyCommand in ~/.ssh/config",
    ),
    Message(
        "host-unknown",
        r"Could not resolve hostname (\S+): (Temporary failure[^\n]*)",
        "the host name {0} cannot be looked up now ({1})",
        "check that this machine is online",
    ),
    Message(
        "host-unknown",
        r"Could not resolve hostname (\S+): (Address family[^\n]*|No address associated[^\n]*)",
        "{0} has no address of the requested kind, IPv4 or IPv6",
        "leave -4, -6 or AddressFamily out",
    ),
    Message("host-unknown", r"Could not resolve hostname (\S+): ", "the host name {0} does not exist"),
    Message(
        "ssh-config-invalid",
        r"env var (\S+) has no value",
        "your ssh configuration uses {0}, which is not set",
        "export it, or change that line of your ssh configuration",
    ),
    Message(
        "bind-failed",
        r"^(?:bind|getaddrinfo:|bindaddress:?|failed to bind) ?(\S+): ([^\n]+)\n(?s:.*)" + AT,
        "ssh cannot connect from {0} ({1})",
        "check BindAddress and BindInterface in ~/.ssh/config",
    ),
    Message("connection-refused", AT + "Connection refused", "{0}:{1} refused the connection"),
    Message("no-route", AT + "(No route to host|Network is unreachable)", "cannot reach {0}:{1} ({2})"),
    Message("connect-timeout", AT + "(?:Connection|Operation) timed out", "{0}:{1} did not answer within {timeout} s"),
    Message("connect-failed", AT + "(.+)", "{0}:{1}: {2}"),
    Message(
        "jump-failed",
        r"channel 0: open failed: administratively prohibited",
        "the jump host allows no connection to {where}",
        "set AllowTcpForwarding yes in the jump host's sshd_config, or use another jump host",
    ),
    Message(
        "jump-failed",
        r"channel 0: open failed: (?:connect failed: )?(.+)",
        "the jump host cannot connect to {where} ({0})",
        "check the pod's address, and that the jump host allows tunnels",
    ),
    Message(
        "channel-refused",
        r"Session open refused by peer|Failed to connect to new control master|channel \d+: open failed",
        "{where} opened no session",
        GATEWAY,
    ),
    Message(
        "not-ssh",
        r"\A(?!(?s:.*)Remote protocol version)(?s:.*?)banner line \d+: (.*)",
        "{where} does not speak SSH; it said: {0}",
        "check the port",
    ),
    Message(
        "not-ssh",
        r"banner line (?:contains invalid|too long)|Protocol major versions differ|No banner received|: invalid format"
        r"|Bad remote protocol",
        "{where} does not speak SSH",
        "check the port",
    ),
    Message("connect-timeout", r"timed out during banner exchange", SILENT),
    Message(
        "connect-timeout",
        r"Connection to \S+ port \d+ timed out",
        "{where} did not finish its greeting within {timeout} s",
    ),
    Message(
        "no-common-algorithm",
        r"no matching (key exchange method|host key type|cipher|MAC|compression method) found\. Their offer: (\S*)",
        "this ssh and the server at {where} have no {0} in common; the server offers {1}",
        "allow one of them for this host in ~/.ssh/config, or update the server",
    ),
    Message(
        "too-many-keys",
        r"Too many authentication failures",
        "{where} hung up after too many keys{keys}",
        "name the one key that it knows: -i KEY -o IdentitiesOnly=yes",
    ),
    Message(
        "login-refused",
        r"\A(?!(?s:.*)debug1: Authentications that can continue)(?s:.*)^(\S+)@(\S+): Permission denied",
        "the jump host {1} refused the login of {0}",
        "name its key under its Host in ~/.ssh/config (IdentityFile), or give the key to the agent: ssh-add KEY",
    ),
    Message(
        "login-refused",
        r"(\S+)@\S+: Permission denied \(((?:(?!publickey)[^)])*)\)",
        "{where} accepts no keys for {0}, only: {1}",
        "allow keys in its sshd_config (PubkeyAuthentication yes), or use another user",
    ),
    Message("login-refused", r"(\S+)@\S+: Permission denied", "{where} refused the login of {0}{keys}", "{key_hint}"),
    Message(
        "proxy-failed",
        rf"Executing proxy command(?s:.*){PROXY_GONE}\n+(?s:.*?)([^\n]+)\n*\Z",
        "the ProxyCommand for {where} failed: {0}",
        "check ProxyCommand in ~/.ssh/config",
    ),
    Message(
        "proxy-failed",
        rf"Executing proxy command: (?:exec )?(.+)\n(?s:.*){PROXY_GONE}",
        "the ProxyCommand for {where} ended without a message: {0}",
        "check ProxyCommand in ~/.ssh/config",
    ),
    Message(
        "connection-closed",
        r"Connection (?:closed|reset) by|[Cc]onnection reset by peer|Broken pipe|[Cc]onnection closed by remote",
        "{where} closed the connection during the login (too busy, or your address is not allowed)",
    ),
    Message("connection-silent", r"Timeout, server \S+ not responding", "{where} stopped answering"),
)
"""The first match counts."""


@dataclass(frozen=True)
class Attempt:
    """A connection that failed: `where` as "HOST:PORT", and what ssh and the programs that it ran wrote."""

    where: str
    timeout_s: int
    text: str


def explained(attempt: Attempt) -> UnreachableError:
    """Return the error for a connection that failed before the pod ran anything."""
    for message in MESSAGES:
        found = re.search(message.pattern, attempt.text, re.MULTILINE)
        if found:
            return _error(message, attempt, [one_line(group or "", 200) for group in found.groups()])
    said = [line for line in attempt.text.splitlines() if line.strip() and not line.startswith(("debug", "OpenSSH_"))]
    reason = one_line(said[-1], 200) if said else "ssh ended without a message"
    return UnreachableError("connect-failed", f"{attempt.where}: {reason}")


def _error(message: Message, attempt: Attempt, groups: list[str]) -> UnreachableError:
    fates = key_fates(attempt.text)
    values = {
        "where": attempt.where,
        "timeout": attempt.timeout_s,
        "keys": f" ({'; '.join(fates)})" if fates else "",
        "key_hint": key_hint(fates),
    }
    hint = message.hint.format(*groups, **values) if message.hint else None
    return UnreachableError(message.id, message.means.format(*groups, **values), hint)


FILES = "the account's start-up files (~/.bashrc, or ~/.zshenv of zsh)"

OTHER_USER = r"[Pp]lease log ?in as the user \"?([A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)\"?[^\n]*"
"""What the root account of a cloud image prints: "Please login as the user \"ubuntu\" rather than ..."."""


def shell_failure(where: str, noise: str, status: int | None, command_as: Callable[[str], str]) -> UnreachableError:
    """Return the error for a login whose shell ended before pi's first command.

    `command_as` returns the ssh command for another user.
    """
    if other := re.search(OTHER_USER, noise):
        return UnreachableError(
            "other-user",
            f"{where} wants another user: {one_line(other[0], 200)}",
            f"log in as that user: pi pods setup NAME {shlex.quote(command_as(other[1]))}",
        )
    ended = f"with status {status}" if status is not None else "early"
    return UnreachableError(
        "login-shell-exited",
        f"the login shell on {where} ended {ended}{_last_line(noise, '; it wrote: ')}",
        f"{GATEWAY}; otherwise look for an `exit` or another shell in {FILES}",
    )


def shell_silence(where: str, noise: str, waited_s: int, answer: str, *, waits: bool) -> UnreachableError:
    """Return the error for a login whose start-up files do not end.

    `answer` is what a shell replied when it was asked for its name. The files `waits` for input if that ended them.
    """
    said = _last_line(noise, "; it last wrote: ")
    only = "in a terminal only, behind `[ -t 0 ] &&`"
    if waits:
        return UnreachableError(
            "start-up-files-ask",
            f"a start-up file of the account on {where} waits for input{said}",
            f"look for a `read` or a menu in {FILES}, and let it run {only}",
        )
    if other := re.search(r"pi-asks-(?:\S*/)?-?(\w+)|\b(fish): ", answer):
        name = other[1] or other[2]
        return UnreachableError(
            "start-up-other-shell",
            f"a start-up file of the account on {where} starts another shell ({name})",
            f"look for {name} in {FILES}, and start it {only}",
        )
    return UnreachableError(
        "start-up-files-slow",
        f"the start-up files of the account on {where} took longer than {waited_s} s{said}",
        f"look for what is slow in {FILES}, for example conda, and let it run {only}",
    )


def shell_flood(where: str, noise: str, limit: int) -> UnreachableError:
    """Return the error for start-up files that print without end."""
    return UnreachableError(
        "start-up-files-flood",
        f"the start-up files of the account on {where} printed more than {limit >> 20} MiB"
        f"{_last_line(noise, '; the last line: ')}",
        f"look for a loop in {FILES}",
    )


def _last_line(text: str, before: str) -> str:
    lines = [one_line(line, 300) for line in text.splitlines() if line.strip()]
    return f"{before}{lines[-1]}" if lines else ""
