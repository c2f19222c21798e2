"""Replace pi's catalog by a newer one, and describe the age of the one in use."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import date
from pathlib import Path

from pi import config, screen, web
from pi.errors import InputError
from pi.planning import catalog, catalog_files, published
from pi.text import count

MOST_BYTES = 4 * 1024**2
"""A catalog has about 0.12 MB."""


def refresh(place: str | None, sha256: str | None) -> None:
    """Take the catalog from a file or an https:// address, or from `catalog_url` of config.toml, and keep it.

    Raises:
        InputError: if there is no source, no checksum, or pi rejects the catalog.
        RemoteError: if the download fails.
    """
    folder = config.config_dir()
    source = place or config.setting(folder, "catalog_url")
    if source is None:
        raise InputError(
            "no-catalog-source",
            "pi models --refresh needs the file or the https:// address of a catalog",
            f'name it, or write catalog_url = "https://..." into {folder / config.SETTINGS}',
        )
    text = _content(source)
    if text is None:
        raise InputError("no-catalog", f"{source} does not exist")
    _check_sum(source, text, sha256)
    before = catalog.load_without_own(folder)
    found = published.checked(text, source, catalog.read(catalog.read_toml(catalog.SHIPPED)))
    if (found.date or "") < (before.date or ""):
        raise InputError("catalog-older", f"{source} is of {found.date}; pi has the catalog of {before.date}")
    _write(catalog_files.fetched_in(folder), text)
    screen.say(f"catalog of {found.date}: {count(len(found.models), 'model')} (before: {before.date})")


def _content(source: str) -> bytes | None:
    """Return what a file or an address contains, or None if it does not exist."""
    if web.is_url(source):
        return web.fetch(source, MOST_BYTES)
    try:
        with Path(source).expanduser().open("rb") as file:
            return file.read(MOST_BYTES + 1)[:MOST_BYTES]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("catalog-unreadable", f"cannot read {source}: {error.strerror}") from None


def _check_sum(source: str, text: bytes, given: str | None) -> None:
    """Raise InputError unless the SHA-256 of a catalog is the given one, or the one in the file beside it."""
    beside = None if given else _content(f"{source}.sha256")
    words = (given or (beside or b"").decode("ascii", "replace")).split()
    if not words:
        raise InputError(
            "catalog-no-checksum", f"{source} has no checksum", f"put it into {source}.sha256, or add --sha256 HEX"
        )
    if not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
        raise InputError("checksum-invalid", f"{words[0][:80]!r} is not a SHA-256 of 64 hex digits")
    real = hashlib.sha256(text).hexdigest()
    if real != words[0].lower():
        raise InputError(
            "catalog-checksum", f"{source} does not have the checksum {words[0].lower()}", f"it has {real}"
        )


def _write(file: Path, text: bytes) -> None:
    """Replace the file atomically. Raises InputError if pi cannot write it."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        config.make_private(file.parent)
        with fresh.open("wb") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise InputError("catalog-unwritable", f"cannot write {file}: {error.strerror}") from None


def age(day: str | None, today: date) -> str:
    """Describe a catalog's age: "catalog of 2026-08-21, 100 days old"."""
    if day is None:
        return "catalog without a date"
    days = (today - date.fromisoformat(day)).days
    return f"catalog of {day}, {count(days, 'day')} old" if days > 0 else f"catalog of {day}"
