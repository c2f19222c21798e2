"""Removes secrets from text by value, in every notation and wherever a stream is split."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
from functools import cached_property
from typing import Any, Iterable, Iterator, List, Optional, Tuple

from pi.on_pod import reading

MASK = "***"

SHORTEST = 8
"""Characters of the shortest value that is treated as a secret; a shorter one occurs in ordinary text."""

LONG = 4096
"""Characters of a text for which it pays to look for single characters first."""

FREQUENT = "KLBGRNOTMPCASEDIF_:/.-0123456789vkybwgpfmuchdlrsnioate"
"""Characters of logs; those that are missing here, such as Q and z, are rarer, those at the end are in each line."""

NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PI_API_KEY", "VLLM_API_KEY", "OPENAI_API_KEY")
"""Environment variables that contain secrets."""

_PI = os.path.expanduser("~/.pi")


class Secrets:
    """Values that pi hides in text."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values = frozenset(value for value in values if len(value) >= SHORTEST)
        forms = {form for value in self.values for form in _forms(value)}
        self.forms = sorted(forms, key=len, reverse=True)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Return a pattern that matches the longest form at a place."""
        return re.compile("|".join(map(re.escape, self.forms)))

    @cached_property
    def first(self) -> Optional[re.Pattern[str]]:
        """Return a pattern for the first character of any form, or None without secrets."""
        characters = "".join({re.escape(form[0]) for form in self.forms})
        return re.compile("[%s]" % characters) if characters else None

    def hide(self, text: str) -> str:
        """Return the text with `***` for every secret."""
        return self.pattern.sub(MASK, text) if self.are_in(text) else text

    def are_in(self, text: str) -> bool:
        return any(form in text for form in (self.forms if len(text) < LONG else self._possible_in(text)))

    def _possible_in(self, text: str) -> List[str]:
        """Return the forms whose rarest characters all occur in a text; one character is found twenty times as fast."""
        return [form for form, rarest in self._rarest if all(map(text.__contains__, rarest))]

    @cached_property
    def _rarest(self) -> List[Tuple[str, str]]:
        return [(form, "".join(sorted(set(form), key=FREQUENT.find)[:10])) for form in self.forms]

    def hide_all(self, value: Any) -> Any:
        """Return a JSON value with the secrets in its texts hidden; keys stay as they are."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, dict):
            return {name: self.hide_all(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.hide_all(part) for part in value]
        return value


class Redactor:
    """Hides secrets in a stream. Holds back text that may be the start of one."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._held = ""

    def feed(self, text: str) -> str:
        """Return the text that is safe to show now. Never holds back a whole line: secrets have no line break."""
        if self._secrets.first is None:
            return text
        return self._shown(self._held + text)

    def flush(self) -> str:
        """Return the text that was held back. Call it at the end of the stream."""
        rest, self._held = self._held, ""
        return self._secrets.hide(rest)

    def _shown(self, text: str) -> str:
        out, at = [], 0
        held = self._unfinished(text, 0)
        matches = self._secrets.pattern.finditer(text) if self._secrets.are_in(text) else iter(())
        for match in matches:
            if match.start() >= held:
                break
            out += [text[at : match.start()], MASK]
            at = match.end()
            if held < at:
                held = self._unfinished(text, at)
        self._held = text[held:]
        return "".join([*out, text[at:held]])

    def _unfinished(self, text: str, start: int) -> int:
        """Return where the start of a secret begins at the end of the text, or the text's length."""
        assert self._secrets.first is not None
        longest = len(self._secrets.forms[0])
        for match in self._secrets.first.finditer(text, max(start, len(text) - longest + 1)):
            rest = text[match.start() :]
            if any(len(rest) < len(form) and form.startswith(rest) for form in self._secrets.forms):
                return match.start()
        return len(text)


def _forms(value: str) -> Iterator[str]:
    """Yield the notations of a value: plain, and in JSON, Python, URLs, shells and base64."""
    inner = json.dumps(value, ensure_ascii=False)[1:-1]
    written = {value, inner, json.dumps(value)[1:-1], repr(value)[1:-1], repr(value + "'\"")[1:-4]}
    written |= set(_in_shells(value))
    for address in (_in_url(value, ""), _in_url(value, "/")):
        written |= {address, re.sub("%..", lambda code: code[0].lower(), address)}
    for form in written:
        yield form
        yield json.dumps(form)[1:-1]
    yield from _in_base64(value.encode("utf-8", "replace"))


UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
"""Characters that stay as they are in a URL (RFC 3986)."""


def _in_url(value: str, safe: str) -> str:
    """Return what `urllib.parse.quote` does, which takes 2 ms of the CPU to import, at each call."""
    return "".join(
        each if each in UNRESERVED or each in safe else "".join("%%%02X" % byte for byte in each.encode())
        for each in value
    )


def _in_shells(value: str) -> Iterator[str]:
    for quoted_quote in ("'\\''", "'\"'\"'"):
        yield value.replace("'", quoted_quote)
    yield re.sub(r'([$`"\\])', r"\\\1", value)
    yield re.sub(r"([ !\"$&'()*,;<>?\[\\\]^`{|}])", r"\\\1", value)  # bash's printf %q


def _in_base64(data: bytes) -> list[str]:
    """Return the base64 of these bytes within any larger text: three alignments, without their shared ends."""
    forms = []
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + data).decode().rstrip("=")
        first = (8 * shift + 5) // 6
        last = 8 * (shift + len(data)) // 6
        forms += [whole[first:last], whole[first:last].replace("+", "-").replace("/", "_")]
    return forms


def stored() -> list[str]:
    """Return the secrets on this pod: those of the environment file, and each deployment's key."""
    values = in_environment_file(reading.text(os.path.join(_PI, "env.sh")))
    with contextlib.suppress(OSError):
        for name in os.listdir(os.path.join(_PI, "run")):
            values.append(reading.text(os.path.join(_PI, "run", name, "key")).strip())
    return values


def in_environment_file(text: str) -> list[str]:
    """Return the secrets that a shell file exports, one on each line."""
    values = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            words = shlex.split(line, comments=True)
            name, _, value = words[1].partition("=") if words[:1] == ["export"] and words[1:] else ("", "", "")
            values += [value] if name in NAMES else []
    return values
