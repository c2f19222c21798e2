"""Names of GPUs as people and providers write them: the kind of each, or names that are close."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

from pi.errors import InputError
from pi.planning.gpu_kinds import KINDS, Kind

LONGEST = 100
"""Maximum characters of a name in a message."""

MOST = 24
"""Maximum kinds of GPUs in a hint."""

_MEMORY = re.compile(r"([0-9]{1,4}(?:\.[0-9])?)(?:gb|gib|g)")

_DECORATION = re.compile(
    r"nvidia|geforce|tesla|dgx|hgx|gpus?|cards?|sxm[0-9]?|pcie?[0-9]?|hbm[0-9]?e?|nvlink|tensor|core|ac"
    r"|blackwell|workstation|server|max|q|edition|generation|with|v?ram|memory"
)
"""Words of vendors and providers that do not change the kind of GPU, unless its own name contains them."""

_ALIASES = {"spark": "gb10"}
"""Words that people write for others; a DGX Spark has a GB10."""

_SOLD_AS = (0.96, 1.09)
"""Memory that a card is sold under, as multiples of its GiB in `nvidia-smi`: a 24 GB A10 has 22.5."""


def kind_named(text: str) -> Kind:
    """Return the kind of GPU that a user names, without a number. Raises InputError with the names that are close."""
    return find(simplify(text), text[:LONGEST])


def find(plain: str, shown: str) -> Kind:
    """Return the kind that simplified words name. Raises InputError about `shown`, with the names that are close."""
    words, memory = split(plain)
    if not joined(words):
        raise InputError("gpu-not-named", f"{shown!r} does not name a GPU", _choices(memory))
    ranks = {kind: rank for kind in KINDS if (rank := _rank(kind, plain, words)) is not None}
    if not ranks and (maker := _other_maker(plain)):
        raise InputError("gpu-not-nvidia", f"{shown!r} is from {maker}", "pi needs NVIDIA GPUs, or a CPU")
    if not ranks:
        raise InputError("gpu-unknown", f"unknown GPU {shown!r}", _near(words))
    fitting = {kind: rank for kind, rank in ranks.items() if _has(kind, memory)}
    if not fitting:
        message = f"{shown!r}: no {_titles(ranks)} has that memory"
        raise InputError("gpu-memory-wrong", message, f"use {_titles(_longer(words, memory) or ranks)}")
    best = [kind for kind, rank in fitting.items() if rank == min(fitting.values())]
    usual = list(filter(_is_usual, best)) or best
    if len(usual) > 1:
        raise InputError("gpu-ambiguous", f"which {shown!r}?", _titles(usual))
    return usual[0]


_OTHERS = {
    "AMD": r"amd|instinct|radeon|mi[0-9]{2,3}[a-z]?|rx[0-9]{4}|xtx?|[rw][579][0-9]00",
    "Intel": r"intel|gaudi[0-9]?|hl[0-9]{3}|arc|[ab][0-9]70|b580",
    "Google": r"google|tpu|v[2-7][ep]",
    "Amazon": r"aws|trainium[0-9]?|trn[0-9]|inferentia[0-9]?|inf[0-9]",
    "Huawei": r"huawei|ascend|910[a-d]?",
    "Apple": r"apple|mac|m[1-5]",
}
"""Words in the names of other makers' accelerators."""


def _other_maker(plain: str) -> str | None:
    words = re.split(r"[ .]", plain)
    return next((maker for maker, names in _OTHERS.items() if any(re.fullmatch(names, word) for word in words)), None)


def simplify(text: str) -> str:
    """Return lower case, with single blanks for separators within words, and without a blank before "GB"."""
    text = unicodedata.normalize("NFKC", text).lower().replace("×", "x").replace("*", "x")
    text = re.sub(r"(?<=\w)[-_]+(?=\w)|_|[()]", " ", text)
    return re.sub(r"(?<=[0-9]) (?=(?:gb|gib|g)\b)", "", " ".join(text.split()))


def split(plain: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the words, and the memory in GB among them."""
    words, memory = [], []
    for word in plain.split():
        if match := _MEMORY.fullmatch(word):
            memory.append(float(match[1]))
        else:
            words.append(_ALIASES.get(word, word))
    return tuple(dict.fromkeys(words)), tuple(memory)


def joined(words: Iterable[str], name: tuple[str, ...] = ()) -> str:
    """Join the words that say something about a kind with this name."""
    return "".join(word for word in words if word in name or not _DECORATION.fullmatch(word))


def _rank(kind: Kind, plain: str, words: tuple[str, ...]) -> tuple[int, int] | None:
    """Return how directly words name a kind, the lowest if the most, or None if they do not.

    They may be its whole name, the longest first; its name in `nvidia-smi`; or a part of its name.
    """
    whole = [name for name in _names(kind) if joined(words, name) == "".join(name)]
    if whole:
        return 0, -max(map(len, whole))
    reported = re.search(rf"\b(?:{kind.pattern})", plain, re.IGNORECASE)
    if reported and joined(words) in reported[0].replace(" ", ""):
        return 1, KINDS.index(kind)
    return (2, 0) if joined(words) in _parts(kind) else None


@cache
def _names(kind: Kind) -> tuple[tuple[str, ...], ...]:
    """Return the words of a kind's title and of its name in the catalog, without memory."""
    return tuple(split(simplify(name))[0] for name in (kind.title, kind.name))


@cache
def _parts(kind: Kind) -> frozenset[str]:
    """Return the parts of a kind's names that have a digit, such as "4090" of "RTX 4090".

    If another kind's name is the beginning of one, only ends of it: "5090" is not an RTX 5090 D.
    """
    others = {name for other in KINDS if other != kind for name in _names(other)}
    parts = set()
    for name in _names(kind):
        extends = any(name[:length] in others for length in range(1, len(name)))
        lasts = [len(name)] if extends else range(1, len(name) + 1)
        parts |= {"".join(name[first:last]) for last in lasts for first in range(last)}
    return frozenset(part for part in parts if re.search("[0-9]", part))


def _is_usual(kind: Kind) -> bool:
    """Return whether a kind's title has no memory: it is meant if nobody says which memory."""
    return not split(simplify(kind.title))[1]


def _has(kind: Kind, memory: tuple[float, ...]) -> bool:
    """Return whether a kind is sold with this memory, in GB; words without memory fit any kind."""
    low, high = _SOLD_AS
    return all(low <= size * 1024 / kind.memory_mib <= high for size in memory)


def _near(words: tuple[str, ...]) -> str:
    """Return a hint with the names that are close; those with the same characters in another order come first."""
    unusual_first = sorted(KINDS, key=_is_usual)
    kinds = {part: kind for kind in unusual_first for part in _parts(kind)}
    wanted = joined(words)
    swapped = [part for part in kinds if sorted(part) == sorted(wanted)]
    close = [*swapped, *(word for word in words if word in kinds), *get_close_matches(wanted, kinds, 3, 0.7)]
    near = _titles(kinds[part] for part in close[:3])
    return f"did you mean {near}?" if near else _choices(())


def _choices(memory: tuple[float, ...]) -> str:
    """List kinds with this memory, or of any if none has it."""
    titles = [kind.title for kind in KINDS if memory and _has(kind, memory)] or [kind.title for kind in KINDS]
    more = f" and {len(titles) - MOST} more" if len(titles) > MOST else ""
    return f"use one of {', '.join(titles[:MOST])}{more}"


def _longer(words: tuple[str, ...], memory: tuple[float, ...]) -> list[Kind]:
    """Return the kinds with this memory whose names begin with the words."""
    return [k for k in KINDS if _has(k, memory) and any(name[: len(words)] == words for name in _names(k))]


def _titles(kinds: Iterable[Kind]) -> str:
    return " or ".join(dict.fromkeys(kind.title for kind in kinds))
