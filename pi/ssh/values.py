"""What a value in an ssh command may be: each reading returns the canonical spelling, or raises ValueError."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from pi.errors import InputError

PASTE = 'paste it as "ssh USER@HOST -p PORT -i KEY"'

UNSAFE = re.compile(r"""['`"$\\;&<>|(){}\[\],*?%]|[^!-~]""")
"""Characters refused in users and hosts: those of valid_hostname (ssh.c), all but printable ASCII, and those
that a shell or ssh's own %-tokens would expand, since ssh hands the names of a jump to both."""


def name(text: str) -> str:
    if not text or text.startswith("-") or len(text) > 255:
        raise ValueError("a user or host has 1 to 255 characters and does not begin with -")
    if unsafe := UNSAFE.search(text):
        raise ValueError(f"a user or host holds no {unsafe[0]}")
    return text


def user(text: str) -> str:
    if ":" in text:
        raise InputError(
            "ssh-password", "the ssh command holds a password or a second :", "pi logs in with a key: " + PASTE
        )
    return name(text)


def host(text: str) -> str:
    if text.lower().rstrip(".") == "ssh.runpod.io":
        hint = 'paste the pod\'s "SSH over exposed TCP" command, with an IP address and a port'
        raise InputError("ssh-runpod-gateway", "ssh.runpod.io gives a terminal but runs no commands", hint)
    if "/" in text:
        raise ValueError("a host holds no /")
    if ":" in text:
        return ipv6(text)
    if re.fullmatch(r"[0-9.]*\.[0-9.]*", text):
        return str(ipaddress.IPv4Address(text))
    return name(text)


def ipv6(text: str) -> str:
    address, percent, zone = re.sub(r"^\[(.*)\]$", r"\1", text).partition("%")
    try:
        return str(ipaddress.IPv6Address(address)) + (percent + name(zone) if percent else "")
    except ValueError:
        raise ValueError("this is not an IPv6 address, and a port is given by -p") from None


def number(lowest: int, highest: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,6}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"a number from {lowest} to {highest} is needed")
        return str(int(text))

    return read


port = number(1, 65535)


def path(text: str) -> str:
    if not text.strip() or text == "none" or re.search(r'[$`\\"]', text):
        raise ValueError("the path of a key is written out, or begins with ~/")
    return text


def one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = {"true": "yes", "false": "no"}.get(text.lower(), text.lower())
        if word not in allowed:
            raise ValueError(f"pi honours {' or '.join(allowed)} here")
        return word

    return read
