"""`--set KEY=VALUE`: single arguments of vLLM, laid over other arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pi.errors import InputError
from pi.vllm.arguments import SHORT, Argument, Arguments
from pi.vllm.pasted import check_setting
from pi.vllm.raw_arguments import check_raw

LISTS = frozenset([
    "--allowed-media-domains", "--collect-detailed-traces", "--cpu-offload-params", "--cudagraph-capture-sizes",
    "--device-ids", "--ignore-patterns", "--kv-cache-dtype-skip-layers", "--logits-processors", "--lora-modules",
    "--lora-target-modules", "--numa-bind-cpus", "--numa-bind-nodes", "--offload-params",
    "--sleep-preserve-parameter-names",
])  # fmt: skip
"""Options of vLLM that take several words (`nargs="+"` in its parser, 0.32 and 0.33)."""

KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\+?")

MULTIPLES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""vLLM's suffixes of numbers (`human_readable_int` in vllm/utils/argparse_utils.py): 32k is 32,000, 32K is 32,768."""


def parse(texts: Sequence[str]) -> Arguments:
    """Return the arguments of all `--set`; the last of two for one option wins. Parts of an option stay apart.

    Raises InputError for a text that is not KEY or KEY=VALUE, and for arguments that pi does not allow.
    """
    items: tuple[Argument, ...] = ()
    for text in texts:
        last = _argument(text)
        items = (*(item for item in items if not _replaces(last, item)), last)
    args = Arguments(items)
    check_raw(args, "--set")
    return args


def _replaces(last: Argument, item: Argument) -> bool:
    """Return whether a setting makes an earlier one void; `--x.y+=1` adds to it instead."""
    adds = bool(last.parts) and last.parts[-1].endswith("+")
    return _same(last, item) and not adds and last.parts in ([], item.parts)


def _argument(text: str) -> Argument:
    check_setting(text)
    key, joined, value = text.partition("=")
    key = key.lstrip("-")
    if not KEY.fullmatch(key):
        raise InputError(
            "set-invalid",
            f"invalid --set {text[:80]!r}",
            "use --set KEY=VALUE such as --set max-num-seqs=64, or --set KEY for an argument without a value",
        )
    option = _long(key)
    if not joined:
        return Argument(option.partition(".")[0], (option,))
    if option in LISTS and not value.startswith("{"):
        return Argument(option, (option, *value.split()))
    return Argument(option.partition(".")[0], (f"{option}={value}",))


def _long(key: str) -> str:
    """Return the long option that a key names, in vLLM's spelling; names after a dot stay as they are."""
    name, dot, parts = key.partition(".")
    return SHORT.get(f"-{name}", "--" + name.replace("_", "-")) + dot + parts


def laid_over(above: Arguments, below: Arguments) -> Arguments:
    """Return `below` with the options of `above` over it.

    An option replaces its opposite (`--no-x`, `--disable-x`) too. A part such as `--x.y=1` changes one key of the
    JSON that `below` gives to `--x`, whereas vLLM would drop the other keys.
    """
    for item in above.items:
        merged = _merged(item, below) if item.parts else item
        below = Arguments((*(each for each in below.items if not _same(each, item)), merged))
    return below


def without(args: Arguments, option: str) -> Arguments:
    """Return arguments without an option."""
    return Arguments(tuple(item for item in args.items if item.name != option))


def _same(one: Argument, other: Argument) -> bool:
    return stem(one.name) == stem(other.name)


def stem(option: str | None) -> str:
    """Return what an option and its opposites share: "enable-lora" for `--no-enable-lora` and `--disable-lora`."""
    name = (option or "").removeprefix("--").removeprefix("no-")
    return "enable-" + name.removeprefix("disable-") if name.startswith("disable-") else name


def _merged(item: Argument, below: Arguments) -> Argument:
    """Return the JSON of an option in `below` with one key changed."""
    document: dict[str, Any] = {}
    for each in (*(each for each in below.items if each.name == item.name), item):
        document = _changed(document, each)
    return Argument(item.option, (str(item.name), json.dumps(document)))


def _changed(document: dict[str, Any], item: Argument) -> dict[str, Any]:
    """Change JSON by an argument as vLLM's parser does: one key by `--x.y`, everything by `--x`."""
    if not item.parts:
        whole = json_of(item.value or "")
        return whole if isinstance(whole, dict) else {}
    place = document
    *outer, last = item.parts
    for name in outer:
        inner = place.get(name)
        place[name] = place = inner if isinstance(inner, dict) else {}
    text = item.value or ""
    if last.endswith("+"):
        before = place.get(last[:-1])
        place[last[:-1]] = [*(before if isinstance(before, list) else []), *text.split(",")]
    else:
        place[last] = _read(text)
    return document


def json_of(text: str) -> Any:
    """Return the JSON value of a text, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read(text: str) -> Any:
    """Read a value as vLLM reads that of `--x.y`: JSON, else a number with a suffix, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        number = number_of(text)
        return text if number is None else number


def number_of(text: str) -> int | None:
    """Return the whole number that vLLM reads, such as 32000 of "32k", or None."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,6})?)([kmgtKMGT]?)", text.strip(), re.ASCII)
    if found is None:
        return None
    number, suffix = found.groups()
    if "." in number:
        return int(float(number) * MULTIPLES[suffix]) if suffix.islower() else None
    return int(number) * MULTIPLES.get(suffix, 1)


def names(args: Arguments) -> frozenset[str]:
    """Return the long options of arguments, each without `no-`."""
    return frozenset("--" + _positive(item.name) for item in args.items if item.name)


def _positive(option: str) -> str:
    return option.removeprefix("--").removeprefix("no-")


def listed(args: Iterable[Argument]) -> str:
    """Return arguments as a user would type them after `--set`."""
    return ", ".join(_typed(item) for item in args)


def _typed(item: Argument) -> str:
    return " ".join(item.words).removeprefix("--")
