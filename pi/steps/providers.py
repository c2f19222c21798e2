"""Machines that a user rents, from the JSON of the provider's own command line tool."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pi.errors import InputError, RemoteError
from pi.pods.types import NAME
from pi.screen import printable
from pi.ssh import target
from pi.text import one_line

PATIENCE_S = 60

LARGEST = 8 << 20
"""Bytes of an answer; a machine takes about 4,000."""


@dataclass(frozen=True)
class Rented:
    """A machine that runs at a provider. Without `ssh`, `problem` says why pi cannot register it."""

    id: str
    name: str
    ssh: str = ""
    price: float | None = None
    """Per hour, in the provider's currency."""
    problem: str = ""


def runpod() -> list[Rented]:
    """Return the running pods of `runpodctl`. Raises PiError.

    `pod list` of runpodctl 2.x has names and prices; `pod get ID` has the public address of port 22.
    """
    listed = _rows(["runpodctl", "pod", "list", "--output", "json"])
    return [_of_runpod(row, lambda id: _answer(["runpodctl", "pod", "get", id, "--output", "json"])) for row in listed]


def _of_runpod(row: Any, details: Callable[[str], Any]) -> Rented:
    id = _text(row, "id")
    name, price = _name(_text(row, "name"), id), _price(row, "costPerHr")
    ssh = _member(details(id), "ssh") if ID.fullmatch(id) else None
    address = _address(_member(ssh, "ip"), _member(ssh, "port"), _key_file(_member(ssh, "ssh_key")))
    return address_or_problem(id, name, address, price, "it has no public port 22: expose TCP port 22, or wait for it")


def vast() -> list[Rented]:
    """Return the running instances of `vastai`. Raises PiError.

    As `vastai ssh-url` does, it takes the mapped port 22 of the public address, else Vast's own SSH proxy.
    """
    rows = _rows(["vastai", "show", "instances", "--raw"])
    return [_of_vast(row) for row in rows if _member(row, "actual_status") == "running"]


def _of_vast(row: Any) -> Rented:
    id = str(_member(row, "id"))
    mapped = _member(row, "ports", "22/tcp")
    first = mapped[0] if isinstance(mapped, list) and mapped else None
    address = _address(_member(row, "public_ipaddr"), _member(first, "HostPort"))
    if not address:
        port = _port(_member(row, "ssh_port"))
        is_jupyter = "jupyter" in str(_member(row, "image_runtype"))
        address = _address(_member(row, "ssh_host"), port and port + is_jupyter)
    name = _name(_text(row, "label"), f"vast-{id}")
    return address_or_problem(id, name, address, _price(row, "dph_total"), "it has no SSH port yet")


PROVIDERS: dict[str, Callable[[], list[Rented]]] = {"runpod": runpod, "vast": vast}

INSTALL = {"runpodctl": "https://github.com/runpod/runpodctl", "vastai": "pip install vastai"}

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""An id of a machine; it becomes a word of a command."""


def address_or_problem(id: str, name: str, ssh: str, price: float | None, without: str) -> Rented:
    """Return a machine whose ssh command pi can read, or one with a problem."""
    if not ID.fullmatch(id) or id == "None":
        return Rented(id, name or "a machine", price=price, problem="it has no id that pi can use")
    if not ssh:
        return Rented(id, name, price=price, problem=without)
    try:
        target.parse(ssh)
    except InputError as error:
        return Rented(id, name, price=price, problem=error.message)
    return Rented(id, name, ssh, price)


def _rows(words: list[str]) -> list[Any]:
    """Return the machines that a tool lists: a list, null for none, or an object with the list."""
    answer = _answer(words)
    lists = [answer] if not isinstance(answer, dict) else [each for each in answer.values() if isinstance(each, list)]
    if answer is None:
        return []
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise RemoteError(
            "provider-tool-failed",
            f"{shlex.join(words)} printed no list of machines",
            "install its newest release",
        )
    return lists[0]


def _answer(words: list[str]) -> Any:
    """Return the JSON that a tool prints. Raises InputError without the tool, RemoteError if it fails."""
    tool = words[0]
    if not shutil.which(tool):
        raise InputError("no-provider-tool", f"{tool} is not installed", f"install it ({INSTALL[tool]}), then log in")
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise RemoteError("provider-tool-failed", f"{tool} did not answer: {type(problem).__name__}") from None
    try:
        if done.returncode or len(done.stdout) > LARGEST:
            raise ValueError
        return json.loads(done.stdout)
    except (ValueError, RecursionError):
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        last = one_line(printable(said[-1]), 200) if said else "nothing"
        raise RemoteError(
            "provider-tool-failed",
            f"{shlex.join(words)} ended with {done.returncode} and said: {last}",
            "log in with it, or install its newest release",
        ) from None


def _member(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any, key: str) -> str:
    found = _member(value, key)
    return found if isinstance(found, str) else ""


def _price(value: Any, key: str) -> float | None:
    found = _member(value, key)
    is_price = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 10**6
    return round(float(found), 4) if is_price else None


def _port(value: Any) -> int | None:
    text = str(value)
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) and 0 < int(text) < 65536 else None


def _key_file(value: Any) -> str:
    """Return the key that runpodctl made, if it exists on this machine."""
    path = _text(value, "path")
    return path if _member(value, "exists") is True and path.startswith("/") else ""


def _address(host: Any, port: Any, key: str = "") -> str:
    """Return an ssh command, or an empty text without a usable host and port."""
    number = _port(port)
    if not isinstance(host, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}", host) or number is None:
        return ""
    return shlex.join(["ssh", *(["-i", key] if key else []), f"root@{host}", "-p", str(number)])


def _name(given: str, otherwise: str) -> str:
    """Return a pod's name made of the one at the provider."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", given).strip("-._")[:63]
    return name if NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9-]", "", otherwise)[:63]
