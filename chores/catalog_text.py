"""Convert the catalog to Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Table = dict[str, Any]

PAGE = Path(__file__).parents[1] / "docs" / "models.md"

HEAD = """## The catalog

The rest of this page is rendered from `models.toml` by `inv models.render`. A checked box means that vLLM 0.32.0's own
parser accepted the arguments, or that the model was run. `files` is the measured size of a checkpoint, `weights` a size
by hand; a checkpoint without either, or with `estimated`, has an estimated size.
"""

SIZES_HEAD = """## Sizes of checkpoints

Sums of the files of weights in 10^9 bytes, also of models that have no entry above.

| checkpoint | GB | source | read |
|---|---|---|---|"""

FACTS = {
    "Parameters": "parameters",
    "Active": "active",
    "Context": "context",
    "vLLM from": "floor",
    "vLLM up to": "ceiling",
    "Tools": "tools",
    "Reasoning": "reasoning",
    "API": "api",
    "Experts": "experts",
    "Multimodal": "multimodal",
    "Text only": "text_only",
    "Chat template": "chat_template",
    "Remote code": "trust_remote_code",
    "Heads": "heads",
    "Hidden": "hidden",
    "Vocabulary": "vocabulary",
    "Depth": "depth",
    "Layers": "layers",
    "Vision GiB": "vision_gib",
    "Spans": "spans",
    "Data parallel": "data_parallel",
    "Pipeline": "pipeline",
    "Capability": "capability",
    "Share": "share",
    "Env": "env",
    "Packages": "packages",
    "Verified": "verified",
    "Checked": "checked",
    "Notes": "notes",
    "Source": "source",
}
"""The label of each fact that takes one line of Markdown, in the order of the page."""

LABELS = {key: label for label, key in FACTS.items()}

LISTS = frozenset({"packages", "verified"})

TEXTS = frozenset(
    {
        "checked",
        "floor",
        "ceiling",
        "tools",
        "reasoning",
        "api",
        "spans",
        "capability",
        "notes",
        "source",
        "chat_template",
    }
)


def page(tables: Mapping[str, Any]) -> str:
    """Return docs/models.md with its catalog rendered from the tables of models.toml."""
    written_by_hand, _, _ = PAGE.read_text(encoding="utf-8").partition(HEAD.splitlines()[0])
    return written_by_hand + render(tables)


def render(tables: Mapping[str, Any]) -> str:
    """Return the tables of models.toml as Markdown: families, their models, checkpoints and proved hardware."""
    files: dict[str, float] = {}
    for source in tables.get("sizes", {}).values():
        files |= source.get("weights_gb", {})
    lines = [HEAD]
    for family, facts in tables.get("family", {}).items():
        lines += [f"### {family}", *_facts(facts), ""]
        for model, table in tables["model"].items():
            if table.get("family") == family:
                lines += [*_model(model, {"checked": "", **facts, **table}, table, files), ""]
    return "\n".join([*lines, *_sizes(tables), ""])


def _sizes(tables: Mapping[str, Any]) -> Iterator[str]:
    yield SIZES_HEAD
    for source, table in tables.get("sizes", {}).items():
        for model, gb in table.get("weights_gb", {}).items():
            yield f"| {model} | {gb:g} | {source} | {table['date']} |"


def _model(model: str, table: Mapping[str, Any], own: Mapping[str, Any], files: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of a model. `table` includes the facts of its family, `own` does not."""
    boxes = [bool(variant.get("checked", table["checked"])) for variant in own["variants"].values()]
    yield f"- {_box(all(boxes))} {own.get('title') or model.rpartition('/')[2]}"
    yield f"  - HF: {model}"
    yield from _indented(_facts(own))
    yield "  - Variants:"
    for box, (name, variant) in zip(boxes, own["variants"].items(), strict=True):
        yield from _indented(_variant(box, name, variant, files.get(variant.get("id", model))), 4)


def _box(checked: bool) -> str:
    return "[x]" if checked else "[ ]"


def _variant(box: bool, name: str, table: Mapping[str, Any], files_gb: float | None) -> Iterator[str]:
    parts = [table["id"]] if "id" in table else []
    parts.append(table["precision"])
    parts += [f"weights {table['weights_gb']} GB"] if "weights_gb" in table else []
    parts += ["estimated"] if table.get("estimated") else []
    parts += [f"files {files_gb:g} GB"] if files_gb and "weights_gb" not in table else []
    parts += [f"needs {table['minimum_gb']} GB"] if "minimum_gb" in table else []
    parts += [f"tensor up to {table['tensor']}"] if "tensor" in table else []
    parts += ["only " + "/".join(table["only"])] if "only" in table else []
    parts += [f"vLLM from {table['floor']}"] if "floor" in table else []
    parts += [table["checked"] or "unchecked"] if "checked" in table else []
    yield f"- {_box(box)} {name}: {', '.join(parts)}"
    yield from _indented(_facts({key: table[key] for key in (*_TUNING, "draft") if key in table}))
    if table.get("layouts"):
        yield "  - Hardware:"
        for row in table["layouts"]:
            yield from _indented(_layout(row), 4)


_TUNING = ("args", "env", "context", "share", "on")


def _layout(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"- {row['gpus']}x {'/'.join(hardware.upper() for hardware in row['on'])}"
    sizes = [
        word
        for key, option in SIZES.items()
        if key in row
        for word in ([option] if row[key] is True else [option, str(row[key])])
    ]
    if sizes or row.get("args"):
        yield f"  - {shlex.join([*sizes, *row.get('args', [])])}"
    for key in ("env", "context", "share"):
        if key in row:
            yield f"  - {LABELS[key]}: {_shown(key, row[key])}"
    if "note" in row:
        yield f"  - Notes: {row['note']}"


SIZES = {
    "tensor": "--tensor-parallel-size",
    "pipeline": "--pipeline-parallel-size",
    "data": "--data-parallel-size",
    "expert": "--enable-expert-parallel",
}


def _facts(table: Mapping[str, Any]) -> Iterator[str]:
    for label, key in FACTS.items():
        if key in table:
            yield f"- {label}: {_shown(key, table[key])}"
        if key == "share" and table.get("args"):
            yield f"- {shlex.join(table['args'])}"
    for hardware, tuning in table.get("on", {}).items():
        yield f"- On {hardware}:"
        yield from _indented(_facts(tuning))
    if "draft" in table:
        yield from _draft(table["draft"])


def _draft(table: Mapping[str, Any] | bool) -> Iterator[str]:
    if isinstance(table, bool):
        yield "- Draft: no"
        return
    yield "- Draft:"
    yield f"  - {shlex.join(table['args'])}"
    for hardware, words in table.get("on", {}).items():
        yield f"  - On {hardware}: {shlex.join(words) or 'none'}"
    for label, key in DRAFT.items():
        if key in table:
            yield f"  - {label}: {_shown(key, table[key])}"


DRAFT = {"Extra GB": "extra_gb", "Good up to": "good_up_to", "Default": "default"}
"""The label of each fact about a draft."""


def _shown(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key in ("parameters", "active"):
        return f"{value}B"
    if key == "layers":
        return "; ".join(map(_layers, value))
    if key == "env":
        return shlex.join(f"{name}={text}" for name, text in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    return str(value) or "none"


def _layers(group: Mapping[str, Any]) -> str:
    """Return a group of layers as text, such as "64 full: kv_heads 8, key_dim 128"."""
    texts = {name: _fact(value) for name, value in group.items()}
    sizes = ", ".join(f"{name} {text}" for name, text in texts.items() if name not in ("cache", "count"))
    return f"{group['count']} {group['cache']}: {sizes}"


def _fact(value: object) -> object:
    """Return a fact of a group of layers: a size, the blocks of the decoder, or yes."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "yes" if value is True else value


def _indented(lines: Iterable[str], by: int = 2) -> Iterator[str]:
    return (" " * by + line for line in lines)
