"""`pi door`: one local address for every model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi import screen
from pi.door import background, kept, stopped
from pi.door.rules import File, Rules
from pi.errors import InputError
from pi.fabric_tasks import declaration
from pi.fabric_tasks.flags import Options, flag, repeated, switch
from pi.fabric_tasks.options import duration_s_of, json_switch
from pi.fabric_tasks.start_options import options_of
from pi.fabric_tasks.verb import verb
from pi.pods import state

INSTALL = "install pi's extra for it, in the checkout: uv tool install '.[door]', or: pip install '.[door]'"


@dataclass(frozen=True)
class DoorOptions(Options):
    port: str | None = flag("PORT", "local port (default: the last one, or 4000)")
    host: str | None = flag("ADDRESS", "listen on this address instead of the loopback; the door has no TLS")
    ttl: str | None = flag("30m", "stop models after this time without requests; the next request starts them")
    evict: bool = switch("stop the least used model of a pod if another one needs its place")
    pin: tuple[str, ...] = repeated("NAME", "a model that the door never stops; may be repeated", completes="name")
    file: str | None = flag("FILE", f"serve the models of this file too (default: {declaration.FILE}, if it is here)")
    background: bool = switch("return when the door is open; it stays open")

    def rules(self) -> Rules:
        """Return what the door may do. Raises InputError."""
        path = Path(self.file or declaration.FILE).absolute()
        has_file = self.file is not None or path.exists()
        return Rules(
            start_of=lambda name, table: options_of(name, table).start(),
            ttl_s=duration_s_of(self.ttl, "--ttl"),
            evict=self.evict,
            pinned=self.pin,
            file=File(path, declaration.read) if has_file else None,
        )


@verb(
    DoorOptions,
    examples=(
        "pi door",
        "pi door --port 4100",
        "pi door --ttl 30m --background",
        "pi door --evict --pin embed --file lab.toml",
    ),
)
def run(c: Any, options: DoorOptions) -> None:
    """Serve every model of every pod at one local address, over SSH, until Ctrl+C."""
    try:
        from pi.door import server  # noqa: PLC0415 - its packages are an extra
    except ImportError as error:
        raise InputError("door-not-installed", f"the door needs {error.name}", INSTALL) from None
    host, port, rules = options.host or kept.HOST, _port(options.port), options.rules()
    _check(rules)
    if options.background:
        door = background.start(["door", "--host", host, "--port", str(port), *_words(rules)])
        screen.say(f"the door is at {door.url}; its key is in {kept.key_path()}")
        return
    server.serve(host, port, rules)


def _check(rules: Rules) -> None:
    """Raise InputError for a file with mistakes, or for a pin that is not a model's name."""
    saved = state.load()
    declared = rules.file.read(saved)[0] if rules.file else {}
    places = {(pod.name, name) for pod in saved.pods.values() for name in pod.models}
    places |= {(pod, name) for pod, models in (*declared.items(), *stopped.load().items()) for name in models}
    for pin in rules.pinned:
        if not any(pin in (name, f"{pod}/{name}") for pod, name in places):
            names = ", ".join(sorted({name for _, name in places})) or "none"
            raise InputError("pin-unknown", f"no model {pin!r} to pin", f"you have {names}; see: pi list --all-pods")


def _words(rules: Rules) -> list[str]:
    """Return the flags of a door in the background, which runs in another folder."""
    words = ["--ttl", str(rules.ttl_s)] if rules.ttl_s else []
    words += ["--evict"] if rules.evict else []
    words += [f"--pin={name}" for name in rules.pinned]
    return [*words, f"--file={rules.file.path}"] if rules.file else words


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
    found = background.report(door)
    rows = [(each["id"], each["pod"], each["state"], str(each["requests"]), each["note"]) for each in found["models"]]
    screen.say(f"the door is at {door.url}, pid {door.pid}; its key is in {kept.key_path()}")
    if found["problem"]:
        screen.note(f"the door cannot use all of its file: {found['problem']}")
    if rows:
        screen.table(rows, ("NAME", "POD", "STATE", "REQUESTS", "NOTE"))
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
