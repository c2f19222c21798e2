"""Settings files of clients: pi's part is put in and taken out, and everything else stays as it is.

`clients/CLIENT-NAME.json` (0600) in pi's folder keeps what the file was before, for `--undo`.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi import config
from pi.clients import merging
from pi.clients.definitions import Client, Endpoint, File, filled, shown
from pi.clients.merging import Added, Conflict
from pi.errors import BusyError, InputError

XDG = "~/.config/"
"""Where programs look that follow the XDG standard, without XDG_CONFIG_HOME."""

LARGEST = 1 << 20
"""Bytes of a settings file; real ones have a few thousand."""


@dataclass(frozen=True)
class Note:
    """What pi put into a file. `before` is the file's text then, None if there was no file."""

    path: str
    before: str | None
    written: str
    added: tuple[Added, ...]


def place_of(file: File, given: str | None = None) -> Path:
    """Return where a client's file is: the given path, or the client's own. Raises InputError."""
    text = given or _usual(file)
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise InputError("client-file-unknown-home", f"{text!r}: no such user") from None


def _usual(file: File) -> str:
    """Return a client's own path, under the folders of its variable or of the XDG standard if those are set."""
    if folder := os.environ.get(file.folder) if file.folder else None:
        return f"{folder}/{Path(file.path).name}"
    if file.mac and sys.platform == "darwin":
        return file.mac
    inside = file.path.removeprefix(XDG)
    folder = os.environ.get("XDG_CONFIG_HOME")
    return f"{folder}/{inside}" if folder and inside != file.path else file.path


def short(path: Path) -> str:
    """Return a path as users write it, with ~ for their home."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if home in path.parents else str(path)


def write(client: Client, file: File, endpoint: Endpoint, given: str | None) -> tuple[Path, tuple[str, ...]]:
    """Put pi's part into a client's file, in place of an older one.

    Returns the file, and the defaults that stay at another value of the user. Raises InputError if the file is
    invalid, has other values at pi's places, or cannot be written; it then stays as it is.
    """
    path = place_of(file, given)
    note_file = _note_file(client, endpoint.model)
    text, note = _read(path), _note(note_file)
    if note and note.path != str(path):
        raise _elsewhere(client, endpoint.model, note)
    base = _without_pi(text, file, note) if note else text
    before = note.before if note and text == note.written else base
    merged = _merged(client, path, base, file, endpoint)
    _save(note_file, Note(str(path), before, merged.text, merged.added))
    _replace(path, text, merged.text)
    return path, merged.kept


def undo(client: Client, file: File, model: str) -> tuple[Path, bool]:
    """Take pi's part out of a client's file. Returns the file, and whether it is as it was before.

    Raises InputError if pi wrote no such file, or if its part was changed since.
    """
    note_file = _note_file(client, model)
    note = _note(note_file)
    if note is None:
        raise InputError("client-not-connected", f"pi wrote no settings of {client.name} for {model}")
    path = Path(note.path)
    text = _read(path)
    base = _without_pi(text, file, note)
    _replace(path, text, base)
    with contextlib.suppress(OSError):
        note_file.unlink()
    return path, base == note.before


def _without_pi(text: str | None, file: File, note: Note) -> str | None:
    """Return the text of a file without pi's part. Raises InputError if that part was changed."""
    if text is None or text == note.written:
        return note.before if text is not None else None
    hint = "take it out by hand"
    if file.format == "yaml":
        raise InputError("client-part-changed", f"{note.path} was changed after pi wrote it", hint)
    try:
        return merging.remove(text, file.format, note.added)
    except Conflict as conflict:
        raise InputError("client-part-changed", f"{note.path}: {conflict.path} is not as pi wrote it", hint) from None
    except ValueError as problem:
        raise _invalid(Path(note.path), file, problem) from None


def _merged(client: Client, path: Path, text: str | None, file: File, endpoint: Endpoint) -> merging.Merged:
    command = f"pi connect {endpoint.model} --to {client.name}"
    if file.format == "yaml":
        if text is not None:
            raise InputError(
                "client-file-exists",
                f"pi does not change YAML, and {path} exists",
                f"put in what {command} prints, or choose another --file",
            )
        return merging.Merged(shown(file, endpoint), ())
    content, defaults = filled(file.content, endpoint), filled(file.defaults, endpoint)
    try:
        return merging.merge(text or "", file.format, content, defaults)
    except Conflict as conflict:
        others = _others(client, endpoint.model, path)
        undo_other = [f"first: pi connect {other} --to {client.name} --undo" for other in others]
        hint = next(iter(undo_other), f"remove it, or put in what {command} prints")
        raise InputError("client-setting-taken", f"{path} already has another {conflict.path}", hint) from None
    except ValueError as problem:
        raise _invalid(path, file, problem) from None


def _others(client: Client, model: str, path: Path) -> list[str]:
    """Return the other models whose settings of this client pi wrote into the same file."""
    notes = (config.config_dir() / "clients").glob(f"{client.name}-*.json")
    names = {note: note.name.removeprefix(f"{client.name}-").removesuffix(".json") for note in sorted(notes)}
    return [name for file, name in names.items() if name != model and (note := _note(file)) and note.path == str(path)]


def _invalid(path: Path, file: File, problem: ValueError) -> InputError:
    return InputError(
        "client-file-invalid", f"{path} is not valid {file.format.upper()}: {problem}", "fix it; pi changed nothing"
    )


def _elsewhere(client: Client, model: str, note: Note) -> InputError:
    return InputError(
        "client-connected-elsewhere",
        f"pi wrote the settings of {client.name} for {model} into {note.path}",
        f"first: pi connect {model} --to {client.name} --undo",
    )


def _read(path: Path) -> str | None:
    """Return the text of a file, or None if there is none. Raises InputError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise InputError("client-file-odd", f"{path} is not a regular file")
            data = opened.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("client-file-unreadable", f"cannot read {path}: {error.strerror}") from None
    if len(data) > LARGEST:
        raise InputError("client-file-large", f"{path} is larger than 1 MiB", "pi changes no such file")
    if data.startswith(codecs.BOM_UTF8):
        problem = f"{path} begins with a byte order mark, which {path.suffix or 'such'} files may not have"
        raise InputError("client-file-invalid", problem, "save it as UTF-8 without a BOM; pi changed nothing")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("client-file-invalid", f"{path} is not UTF-8 text", "fix it; pi changed nothing") from None


def _replace(path: Path, old: str | None, new: str | None) -> None:
    """Write or delete a file whole, behind links, with its permissions, unless it changed meanwhile."""
    real = Path(os.path.realpath(path))
    if new == old:
        return
    try:
        if new is None:
            real.unlink()
            return
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(new.encode("utf-8"))
                _take_over(real, file.fileno())
                file.flush()
                os.fsync(file.fileno())
            if _read(path) != old:
                raise BusyError("client-file-busy", f"another program changed {path} just now", "try again")
            Path(fresh).replace(real)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError("client-file-unwritable", f"cannot write {path}: {error.strerror}") from None


def _take_over(real: Path, descriptor: int) -> None:
    """Give a new file the mode and owner of the one that it replaces; a file that is not there yet stays private."""
    with contextlib.suppress(FileNotFoundError):
        there = real.stat()
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, there.st_uid, there.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(there.st_mode))


def _note_file(client: Client, model: str) -> Path:
    return config.config_dir() / "clients" / f"{client.name}-{model}.json"


def _note(path: Path) -> Note | None:
    """Return what pi noted of a file; None if it noted nothing. Raises InputError if the note is damaged."""
    text = _read(path)
    if text is None:
        return None
    try:
        table = json.loads(text)
        added = tuple(Added(tuple(each["path"]), each["value"], each["text"]) for each in table["added"])
        return Note(str(table["path"]), table["before"], str(table["written"]), added)
    except (ValueError, KeyError, TypeError):
        raise InputError("client-note-damaged", f"{path} is damaged", "delete it, and undo by hand") from None


def _save(path: Path, note: Note) -> None:
    document: dict[str, Any] = {
        "path": note.path,
        "before": note.before,
        "written": note.written,
        "added": [{"path": list(each.path), "value": each.value, "text": each.text} for each in note.added],
    }
    _replace(path, _read(path), json.dumps(document))
