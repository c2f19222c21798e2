"""`pi door`: one local address for every model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.door import background, kept
from pi.errors import InputError
from pi.fabric_tasks.flags import Options, flag, switch
from pi.fabric_tasks.options import json_switch
from pi.fabric_tasks.verb import verb

INSTALL = "pip install 'pi-pods[door]'"


@dataclass(frozen=True)
class DoorOptions(Options):
    port: str | None = flag("PORT", "local port (default: the last one, or 4000)")
    host: str | None = flag("ADDRESS", "listen on this address instead of the loopback; the door has no TLS")
    ttl: str | None = flag("30m", "stop models after this time without requests; the next request starts them")
    background: bool = switch("return when the door is open; it stays open")


@verb(
    DoorOptions, examples=("pi door", "pi door --background", "pi door --port 4100", "pi door --ttl 30m --background")
)
def run(c: Any, options: DoorOptions) -> None:
    """Serve every model of every pod at one local address, over SSH, until Ctrl+C."""
    try:
        from pi.door import server  # noqa: PLC0415 - its packages are an extra
    except ImportError as error:
        raise InputError("door-not-installed", f"the door needs {error.name}", INSTALL) from None
    host, port, ttl_s = options.host or kept.HOST, _port(options.port), _seconds(options.ttl)
    if options.background:
        ttl = ["--ttl", str(ttl_s)] if ttl_s else []
        door = background.start(["door", "--host", host, "--port", str(port), *ttl])
        screen.say(f"the door is at {door.url}; its key is in {kept.key_path()}")
        return
    server.serve(host, port, ttl_s)


@dataclass(frozen=True)
class StatusOptions(Options):
    json: bool = json_switch()


@verb(StatusOptions, name="status", examples=("pi door status", "pi door status --json"))
def status(c: Any, options: StatusOptions) -> None:
    """Show whether the door is open, and what its models do."""
    door = kept.opened()
    if options.json:
        return screen.say_json(background.as_json(door))
    if door is None:
        return screen.say("the door is closed; open it: pi door --background")
    rows = [(each["id"], each["pod"], each["state"], each["note"]) for each in background.models(door)]
    screen.say(f"the door is at {door.url}, pid {door.pid}; its key is in {kept.key_path()}")
    if rows:
        screen.table(rows, ("NAME", "POD", "STATE", "NOTE"))
    else:
        screen.say("no models; start one: pi start MODEL --name NAME")


@verb(Options, name="stop", examples=("pi door stop",))
def stop(c: Any, options: Options) -> None:
    """Close the door; the models stay as they are."""
    door = kept.opened()
    if door is None:
        screen.say("the door is closed")
        return
    kept.close(door)
    screen.say(f"closed the door at {door.url}")


def _port(text: str | None) -> int:
    if text is None:
        last = kept.last()
        return last.port if last else kept.PORT
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise InputError("port-invalid", f"invalid --port {text!r}", "use a number from 1 to 65535")
    return int(text)


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd]?)", text, re.ASCII)
    if not found:
        raise InputError("ttl-invalid", f"invalid --ttl {text!r}", "use a time such as 90s, 30m or 2h")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
