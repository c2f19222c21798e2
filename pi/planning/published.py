"""Check a catalog that somebody published: complete, well formed, and without code or environment of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import catalog
from pi.planning.catalog import Catalog, ModelSpec, Tuning
from pi.planning.drafts import Draft
from pi.vllm.arguments import Argument, Arguments

JSON_KEYS: dict[str, frozenset[str]] = {
    "--attention-config": frozenset([
        "backend", "indexer_kv_dtype", "minimax_m3_msa_decode_backend", "mla_prefill_backend",
        "use_prefill_query_quantization", "use_trtllm_attention",
    ]),
    "--compilation-config": frozenset([
        "mode", "cudagraph_mode", "pass_config", "fuse_allreduce_rms", "fuse_attn_quant", "eliminate_noops",
    ]),
    "--default-chat-template-kwargs": frozenset(["enable_thinking"]),
    "--hf-overrides": frozenset(["num_nextn_predict_layers"]),
    "--kernel-config": frozenset(["enable_flashinfer_autotune"]),
    "--media-io-kwargs": frozenset(["video", "num_frames", "fps"]),
    "--reasoning-config": frozenset(["reasoning_parser", "reasoning_start_str", "reasoning_end_str"]),
    "--speculative-config": frozenset([
        "method", "model", "num_speculative_tokens", "draft_tensor_parallel_size", "max_model_len",
        "attention_backend", "moe_backend", "draft_sample_method", "rejection_sample_method",
    ]),
}  # fmt: skip
"""Options with a JSON value, and the keys it may have. Others, such as a compilation backend, name code to import."""

OPTIONS = frozenset([
    *JSON_KEYS, "--async-scheduling", "--attention-backend", "--block-size", "--chat-template-content-format",
    "--config-format", "--disable-custom-all-reduce", "--dtype", "--enable-expert-parallel",
    "--enable-flashinfer-autotune", "--generation-config", "--kv-cache-dtype", "--limit-mm-per-prompt",
    "--linear-backend", "--load-format", "--mamba-backend", "--mamba-ssm-cache-dtype", "--mamba-ssu-algorithm",
    "--max-num-batched-tokens", "--max-num-seqs", "--mm-encoder-tp-mode", "--mm-processor-cache-gb",
    "--mm-processor-cache-type", "--moe-backend", "--no-enable-flashinfer-autotune", "--quantization", "--runner",
    "--tokenizer-mode", "--video-pruning-rate",
])  # fmt: skip
"""Options that a published catalog may set. None of them runs code, opens the server or reads files by path."""

DRAFT_METHODS = frozenset(
    ["mtp", "eagle", "eagle3", "dflash", "dspark", "ngram", "ernie_mtp", "step3p5_mtp", "qwen3_next_mtp"]
)
"""Methods of --speculative-config. `custom_class` is not one: it imports the class that it names."""

_TEXT, _NUMBER, _TRUTH, _WORDS = "text", "a number", "true or false", "a list of texts"

TYPES = {
    **dict.fromkeys(["title", "family", "floor", "ceiling", "api", "checked", "notes", "source", "precision"], _TEXT),
    **dict.fromkeys(["id", "note", "tools", "reasoning", "spans"], _TEXT),
    **dict.fromkeys(["parameters", "active", "context", "share", "heads", "tensor", "gpus", "weights_gb"], _NUMBER),
    **dict.fromkeys(["minimum_gb", "extra_gb", "good_up_to"], _NUMBER),
    **dict.fromkeys(["experts", "multimodal", "data_parallel", "trust_remote_code", "text_only"], _TRUTH),
    **dict.fromkeys(["estimated", "expert", "default"], _TRUTH),
    **dict.fromkeys(["args", "packages", "verified", "only"], _WORDS),
}
"""What each key holds, wherever it stands."""

NAMED = ("family", "model", "variants")
"""Tables whose keys are names."""


def checked(text: bytes, source: str, shipped: Catalog) -> Catalog:
    """Return the catalog in `text`.

    Environment, packages and remote code are accepted only as the shipped catalog has them for the same model.
    Raises InputError with `source` and the entry that is not acceptable.
    """
    tables = catalog.parsed(text, source)
    where = "the top"
    try:
        _check_top(tables)
        _check_types(tables, "")
        found = catalog.read(tables, source)
        for spec in found.models:
            where = f"model {spec.id}"
            _check_spec(spec, _shipped_as(spec, shipped))
    except (TypeError, ValueError, AttributeError) as problem:
        raise InputError(
            "catalog-not-accepted", f"{source}: {where}: {problem}", "pi keeps the catalog that it has"
        ) from None
    return found


def _check_top(tables: Mapping[str, Any]) -> None:
    unknown = sorted(set(tables) - {"date", "family", "model", "sizes"})
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(tables.get("date"))):
        raise ValueError("it has no date such as 2026-08-21")
    date.fromisoformat(tables["date"])
    if not tables.get("model"):
        raise ValueError("it has no models")


def _check_types(table: Mapping[str, Any], where: str) -> None:
    for key, value in table.items():
        place = f"{where}.{key}".lstrip(".")
        if key in NAMED and isinstance(value, dict):
            for name, below in value.items():
                _check_types(below, f"{place}.{name}")
        elif key in TYPES and not _is(value, TYPES[key]):
            raise ValueError(f"{place} is not {TYPES[key]}")
        elif isinstance(value, dict) and key not in ("env", "sizes"):
            _check_types(value, place)
        elif key == "layouts":
            for row in value:
                _check_types(row, place)


def _is(value: Any, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _TRUTH:
        return isinstance(value, bool)
    if kind == _NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _shipped_as(spec: ModelSpec, shipped: Catalog) -> ModelSpec | None:
    entry = shipped.find(spec.id)
    return entry[0] if entry and entry[0].id == spec.id else None


def _check_spec(spec: ModelSpec, known: ModelSpec | None) -> None:
    ids = {spec.id, *(variant.id for variant in spec.variants)} | {d.repository for d in _drafts(spec) if d.repository}
    for model in ids:
        _check_id(model)
    for parser in (spec.tools, spec.reasoning):
        if parser and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", parser, re.ASCII):
            raise ValueError(f"{parser!r} is not a parser")
    if spec.packages and (known is None or spec.packages != known.packages):
        raise ValueError("packages may not come from a published catalog")
    if spec.trust_remote_code and (known is None or not known.trust_remote_code or not ids <= _ids(known)):
        raise ValueError("trust_remote_code may not come from a published catalog")
    accepted = {pair for tuning in _tunings(known) for pair in tuning.env.items()} if known else set()
    for tuning in _tunings(spec):
        for name, value in tuning.env.items():
            if (name, value) not in accepted:
                raise ValueError(f"env may not come from a published catalog ({name})")
        _check_args(tuning.args)
    for draft in _drafts(spec):
        for args in (draft.args, *draft.on.values()):
            _check_args(args)


def _check_id(name: str) -> None:
    try:
        path = ModelId.parse(name).is_path
    except InputError as problem:
        raise ValueError(problem.message) from None
    if path:
        raise ValueError(f"{name!r} is a path")


def _ids(known: ModelSpec) -> set[str]:
    drafts = {draft.repository for draft in _drafts(known) if draft.repository}
    return {known.id, *(variant.id for variant in known.variants), *drafts}


def _drafts(spec: ModelSpec) -> Iterator[Draft]:
    return (variant.draft for variant in spec.variants if variant.draft)


def _tunings(spec: ModelSpec) -> Iterator[Tuning]:
    yield spec.tuning
    yield from spec.tunings.values()
    for variant in spec.variants:
        yield variant.tuning
        yield from variant.tunings.values()
        yield from (layout.tuning for layout in variant.layouts)


def _check_args(args: Arguments) -> None:
    for item in args.items:
        if item.option not in OPTIONS:
            raise ValueError(f"a published catalog may not set {item.option or item.words[0]}")
        keys = JSON_KEYS.get(item.option, frozenset())
        unknown = sorted(set(_keys(item)) - keys)
        if unknown:
            raise ValueError(f"a published catalog may not set {unknown[0]} in {item.option}")


def _keys(item: Argument) -> Iterator[str]:
    """Yield the keys that an option sets: after a dot, or in its JSON, at any depth."""
    yield from item.parts
    for word in (item.value or "", *item.words[2:]):
        if word.startswith("{"):
            document = json.loads(word)
            yield from _json_keys(document)
            if item.option == "--speculative-config" and document.get("method", "mtp") not in DRAFT_METHODS:
                raise ValueError(f"{document['method']!r} is not a known method of drafting")


def _json_keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from _json_keys(below)
    elif isinstance(value, list):
        for below in value:
            yield from _json_keys(below)
