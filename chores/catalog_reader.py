"""Read a catalog from Markdown: the page that `catalog_text` renders, or a plain list of models."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chores.catalog_text import DRAFT, FACTS, LISTS, SIZES, TEXTS, Table
from pi.errors import InputError
from pi.planning.catalog import BYTES_PER_PARAMETER, RECIPE_FACTOR
from pi.planning.hardware import by_name


@dataclass
class Bullet:
    """A line of a list, with the lines below it."""

    text: str
    line: int
    below: list[Bullet] = field(default_factory=list)


def convert(markdown: str) -> Table:
    """Return the tables of models.toml for a Markdown list of sections, boxes, hardware rows and notes.

    Reads two forms: the page that `render` makes, and a plain list whose entries have only `HF: ID` and
    `Hardware:` rows. For the plain list, sizes are estimated from the names or the smallest hardware, and the
    source says so. Raises InputError with the line that cannot be parsed.
    """
    families: Table = {}
    models: Table = {}
    for name, bullets in _sections(markdown):
        family: Table = {}
        families[name] = family
        for bullet in bullets:
            box = re.fullmatch(r"\[[ xX]\] (.+)", bullet.text)
            if box:
                model, table = _read_model(box[1], name, bullet)
                models[model] = table
            else:
                _read_fact(family, bullet)
    return {"family": families, "model": models}


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return tables as TOML text."""
    import tomli_w

    return tomli_w.dumps(tables)


def _sections(markdown: str) -> Iterator[tuple[str, list[Bullet]]]:
    name = ""
    top: list[Bullet] = []
    stack: list[tuple[int, list[Bullet]]] = [(-1, top)]
    for number, line in enumerate(markdown.splitlines(), 1):
        if line.startswith("### "):
            if name:
                yield name, top
            name, top = line[4:].strip(), []
            stack = [(-1, top)]
            continue
        match = re.fullmatch(r"( *)- (.+?)\s*", line)
        if not match or not name:
            continue
        depth = len(match[1])
        while stack[-1][0] >= depth:
            stack.pop()
        bullet = Bullet(match[2], number)
        stack[-1][1].append(bullet)
        stack.append((depth, bullet.below))
    if name:
        yield name, top


def _read_model(title: str, family: str, entry: Bullet) -> tuple[str, Table]:
    table: Table = {"family": family}
    model, rows = "", None
    for bullet in entry.below:
        label, _, value = bullet.text.partition(": ")
        if label == "HF":
            model = value.strip()
            if title != model.rpartition("/")[2]:
                table["title"] = title
        elif bullet.text == "Variants:":
            table["variants"] = dict(_read_variant(variant) for variant in bullet.below)
        elif bullet.text == "Hardware:":
            rows = bullet.below
        else:
            _read_fact(table, bullet)
    if not model:
        raise InputError("markdown-invalid", f"line {entry.line}: {title} has no HF: line")
    if "variants" not in table:
        _estimate(table, title, model, rows or [])
    return model, table


def _read_fact(table: Table, bullet: Bullet) -> None:
    text = bullet.text
    if text.startswith("-"):
        table["args"] = shlex.split(text)
        return
    on = re.fullmatch(r"On ([a-z0-9_]+):", text)
    if on:
        tuning: Table = {}
        table.setdefault("on", {})[on[1]] = tuning
        for below in bullet.below:
            _read_fact(tuning, below)
        return
    if text in ("Draft:", "Draft: no"):
        table["draft"] = _read_draft(bullet.below) if bullet.below else False
        return
    label, _, value = text.partition(": ")
    if label not in FACTS:
        raise InputError(
            "markdown-invalid", f"line {bullet.line}: unknown fact {label!r}", f"use one of {', '.join(FACTS)}"
        )
    key = FACTS[label]
    try:
        table[key] = _value(key, value.strip())
    except ValueError:
        raise InputError("markdown-invalid", f"line {bullet.line}: cannot parse {text!r}") from None


def _read_draft(bullets: list[Bullet]) -> Table:
    table: Table = {}
    for bullet in bullets:
        label, _, value = bullet.text.partition(": ")
        if bullet.text.startswith("-"):
            table["args"] = shlex.split(bullet.text)
        elif label.startswith("On "):
            table.setdefault("on", {})[label.removeprefix("On ")] = [] if value == "none" else shlex.split(value)
        elif label in DRAFT:
            table[DRAFT[label]] = value == "yes" if value in ("yes", "no") else _number(value)
        else:
            raise InputError("markdown-invalid", f"line {bullet.line}: unknown fact {label!r} of a draft")
    return table


def _value(key: str, text: str) -> Any:
    if key in TEXTS:
        return "" if text == "none" else text
    if key in LISTS:
        return text.split(", ")
    if key == "env":
        return dict(word.split("=", 1) for word in shlex.split(text))
    if key == "layers":
        return [_read_layers(group) for group in text.split("; ")]
    if text in ("yes", "no"):
        return text == "yes"
    return _number(text.removesuffix("B"))


def _read_layers(text: str) -> Table:
    head, _, sizes = text.partition(": ")
    count, cache = head.split(" ")
    parts = (part.split(" ") for part in sizes.split(", "))
    return {"cache": cache, "count": int(count)} | {name: _fact(name, words) for name, *words in parts}


def _fact(name: str, words: list[str]) -> object:
    """Read a fact of a group of layers: a size, the blocks of the decoder, or yes."""
    if name == "at":
        return [*map(int, words)]
    return True if words == ["yes"] else int(*words)


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"\d+", text) else float(text)


def _read_variant(bullet: Bullet) -> tuple[str, Table]:
    match = re.fullmatch(r"\[[ xX]\] ([^:]+): (.+)", bullet.text)
    if not match:
        raise InputError(
            "markdown-invalid",
            f"line {bullet.line}: invalid variant {bullet.text!r}",
            "write it as [ ] name: precision, needs N GB",
        )
    table: Table = {}
    for part in match[2].split(", "):
        for pattern, key, read in _PARTS:
            value = re.fullmatch(pattern, part)
            if value:
                table |= {key: read(value[1])} if key else {}
                break
        else:
            raise InputError("markdown-invalid", f"line {bullet.line}: unknown part of a variant {part!r}")
    for below in bullet.below:
        if below.text == "Hardware:":
            table["layouts"] = [_read_row(row) for row in below.below]
        else:
            _read_fact(table, below)
    return match[1], table


_PARTS: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    (r"([^ ]+/[^ ]+)", "id", str),
    (r"weights ([\d.]+) GB", "weights_gb", _number),
    (r"(estimated)", "estimated", bool),
    (r"files ([\d.]+) GB", "", _number),
    (r"needs ([\d.]+) GB", "minimum_gb", _number),
    (r"tensor up to (\d+)", "tensor", int),
    (r"only ([^ ]+)", "only", lambda text: text.split("/")),
    (r"vLLM from ([\d.]+)", "floor", str),
    (r"(parsed|run|unchecked)", "checked", lambda text: "" if text == "unchecked" else text),
    (r"([a-z]+\d+)", "precision", str),
)


def _read_row(bullet: Bullet) -> Table:
    """Read a hardware row such as `8x H200/H20` and the arguments, environment and notes below it."""
    match = re.match(r"(\d+)x ([A-Za-z0-9_/]+)", bullet.text)
    if not match:
        raise InputError(
            "markdown-invalid", f"line {bullet.line}: invalid hardware {bullet.text!r}", "write it as 8x H200/H20"
        )
    row: Table = {"gpus": int(match[1]), "on": match[2].lower().split("/")}
    for below in bullet.below:
        if below.text.startswith("-"):
            _read_row_args(row, shlex.split(below.text))
        elif below.text.startswith("Notes: "):
            row["note"] = below.text.removeprefix("Notes: ")
        else:
            _read_fact(row, below)
    return row


def _read_row_args(row: Table, words: list[str]) -> None:
    kept: list[str] = []
    options = {option: key for key, option in SIZES.items()}
    options |= {"--max-model-len": "context", "--gpu-memory-utilization": "share"}
    rest = iter(words)
    for word in rest:
        key = options.get(word)
        if key is None:
            kept.append(word)
        else:
            row[key] = True if key == "expert" else _number(next(rest))
    if kept:
        row["args"] = kept


_PRECISIONS = {"NVFP4": "nvfp4", "MXFP4": "mxfp4", "FP8": "fp8", "AWQ": "int4", "INT4": "int4", "INT8": "int8"}


def _estimate(table: Table, title: str, model: str, rows: list[Bullet]) -> None:
    """Fill in the facts that a plain list lacks, and move those shared by all rows to the model."""

    words = f"{title} {model}".upper()
    precision = next((name for word, name in _PRECISIONS.items() if word in words), "bf16")
    layouts = [_read_row(row) for row in rows]
    table |= _shared(layouts)
    variant: Table = {"precision": precision, "layouts": layouts}
    size = re.search(r"(\d+(?:\.\d+)?)B\b", title) or re.search(r"(\d+(?:\.\d+)?)B\b", model)
    if size:
        table["parameters"] = _number(size[1])
    else:
        sizes = [row["gpus"] * kind.memory_mib for row in layouts for name in row["on"] if (kind := by_name(name))]
        least_gb = min(sizes, default=0) * 1024**2 / 1e9
        table["parameters"] = round(least_gb / RECIPE_FACTOR / BYTES_PER_PARAMETER[precision])
    table["source"] = "a list in Markdown; sizes estimated from names and hardware"
    table["variants"] = {precision: variant}


def _shared(layouts: list[Table]) -> Table:
    """Return parsers and remote code, which belong to the model, not to its hardware."""
    shared: Table = {}
    for row in layouts:
        kept: list[str] = []
        words = iter(row.get("args", []))
        for word in words:
            if word in ("--tool-call-parser", "--reasoning-parser"):
                shared["tools" if word.startswith("--tool") else "reasoning"] = next(words)
            elif word == "--trust-remote-code":
                shared["trust_remote_code"] = True
            elif word != "--enable-auto-tool-choice":
                kept.append(word)
        row.pop("args", None)
        if kept:
            row["args"] = kept
    return shared
