"""Find what goes wrong when people paste arguments: dashes, quotes, line ends and commands of other tools."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence

from pi.errors import InputError
from pi.vllm.arguments import Argument, Arguments

DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
"""Characters that word processors and web pages put in place of a hyphen."""

CURLY = "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
"""Quotes that no shell and no JSON parser reads as quotes."""

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+=.*", re.ASCII | re.DOTALL)

JSON_OPTION = re.compile(r"--[a-z-]+-(config|kwargs|overrides|per-prompt|map)")
"""Options of vLLM that take JSON, by their names."""

TEMPLATE = ("{{", "{%", "{#")
"""Beginnings of a chat template, which may stand in an argument and is not JSON."""

CONTINUATIONS = ("\\", "^", "`")
"""How a line of a shell command continues in bash, cmd and PowerShell."""

COMMAND = re.compile(r"(.*/)?(vllm|serve|python[0-9.]*|docker|uv|uvx|sudo|nohup|export|env)", re.DOTALL)


def check_words(words: Sequence[str]) -> None:
    """Raise InputError if the words after `--vllm` show a mistake of pasting."""
    for word in words:
        _check_dash(word, "--vllm")
        _check_line_end(word)
    args = Arguments.parse(words)
    if args.items and args.items[0].option is None:
        _check_beginning(args.items[0].words)
    for item in args.items:
        if item.option is not None:
            _check_json(item)


def check_setting(text: str) -> None:
    """Raise InputError if the value of one `--set` shows a mistake of pasting."""
    key = text.partition("=")[0]
    _check_dash(text, "--set")
    if key.startswith(tuple(CURLY)):
        raise _curly(text)
    if VARIABLE.fullmatch(text):
        raise _variable(text)
    _check_json(Argument("--" + key.lstrip("-").partition(".")[0].replace("_", "-"), (text,)))


def _check_dash(word: str, flag: str) -> None:
    typed = word.lstrip("-" + DASHES)
    name, joined, value = typed.partition("=")
    begins, inside = word[: len(word) - len(typed)], any(dash in name for dash in DASHES)
    if not any(dash in begins for dash in DASHES) and not (inside and (begins or flag == "--set")):
        return
    meant = "--" * (flag == "--vllm") + re.sub(f"[{DASHES}]", "-", name) + joined + value
    raise InputError("pasted-dash", f"{word[:60]!r} contains a long dash instead of a hyphen", f"type {meant[:80]}")


def _check_line_end(word: str) -> None:
    if word in CONTINUATIONS:
        raise InputError(
            "pasted-line-end", f"--vllm contains a single {word}", "remove it, or end the line directly after it"
        )
    if word.strip() != word and word.strip().startswith("-"):
        raise InputError(
            "pasted-line-end",
            f"--vllm contains {word[:60]!r}, with a blank before the option",
            "remove the backslash before it, or end the line directly after the backslash",
        )


def _check_beginning(words: Sequence[str]) -> None:
    """Reject words before the first option: vLLM would take them for a second model."""
    first = words[0]
    if VARIABLE.fullmatch(first):
        raise _variable(first)
    if COMMAND.fullmatch(first):
        raise InputError(
            "pasted-command",
            f"--vllm begins with a command: {shlex.join(words)[:80]}",
            "remove it, and the model after it; pi start MODEL names the model",
        )
    if first and not first.startswith("-"):
        raise InputError(
            "pasted-operand",
            f"--vllm begins with {first[:60]!r}, which is not an option",
            "begin with an option such as --max-model-len; pi start MODEL names the model",
        )


def _variable(text: str) -> InputError:
    name = text.partition("=")[0]
    return InputError("pasted-variable", f"{name} is an environment variable", f"use --env {shlex.quote(text)[:200]}")


def _curly(text: str) -> InputError:
    return InputError("pasted-quotes", f"{text[:60]!r} contains curly quotes", "use straight quotes: ' or \"")


def _check_json(item: Argument) -> None:
    """Reject JSON that lost its quotes, or whose quotes are curly."""
    values = [item.words[0].partition("=")[2]] if "=" in item.words[0] else list(item.words[1:2])
    for value in values:
        if value.startswith(TEMPLATE) or not _means_json(item, value) or _is_json(value):
            continue
        if any(quote in value for quote in CURLY):
            raise _curly(value)
        raise InputError(
            "pasted-json",
            f"{item.option} does not get JSON but {' '.join(item.words[1:] or values)[:80]}",
            f'put JSON in single quotes with its double quotes inside: {item.option} \'{{"key": "value"}}\'',
        )


def _means_json(item: Argument, value: str) -> bool:
    """Return whether a value should be JSON: it has braces, or a shell took them from the JSON of its option."""
    if item.parts or not value:
        return False
    if value.startswith(("{", *CURLY)) or value.startswith("'{"):
        return True
    is_pair = re.match(r"""["'\\]*[A-Za-z_]+["'\\]*:""", value)
    return bool(JSON_OPTION.fullmatch(str(item.option)) and is_pair)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
