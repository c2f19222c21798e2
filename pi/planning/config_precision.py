"""Read the number format of a checkpoint's weights from its `config.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from pi.planning.config_fields import Table, count, section, word

DTYPES = {
    "float32": "fp32",
    "float": "fp32",
    "bfloat16": "bf16",
    "float16": "bf16",
    "half": "bf16",
    "float8_e4m3fn": "fp8",
    "fp8": "fp8",
}
"""Format by `dtype`. FP16 counts as BF16: the same bytes, and vLLM converts each to the other."""

NARROWEST_FIRST = ("nvfp4", "mxfp4", "int4", "mxfp8", "fp8", "int8")
"""A checkpoint with several formats is named after the first of these: most of its weights have it."""

PARTS = (
    ("nvfp4", "nvfp4"),
    ("nv_fp4", "nvfp4"),
    ("mxfp4", "mxfp4"),
    ("mx_fp4", "mxfp4"),
    ("mxfp8", "mxfp8"),
    ("mx_fp8", "mxfp8"),
    ("float8", "fp8"),
    ("fp8", "fp8"),
    ("float-quantized", "fp8"),
    ("int4", "int4"),
    ("w4a16", "int4"),
    ("w4a8", "int4"),
    ("marlin-24", "int4"),
    ("pack-quantized", "int4"),
    ("int8", "int8"),
    ("w8a8", "int8"),
    ("w8a16", "int8"),
    ("int-quantized", "int8"),
    ("awq", "int4"),
    ("gptq", "int4"),
)
"""Formats by a part of the names that quantization tools write; the first match wins."""

INTEGER_METHODS = (
    "awq",
    "auto_awq",
    "awq_marlin",
    "gptq",
    "auto_gptq",
    "gptq_marlin",
    "auto-round",
    "inc",
    "moe_wna16",
    "hqq",
    "gptqmodel",
)
"""Methods with integer weights of `bits` bits."""

MAX_ENTRIES = 100_000
"""Most layers of a mixed checkpoint that pi looks at; a mixture of experts lists each expert."""


def precision_of(config: Table, text: Table) -> str | None:
    """Return the format of the weights, such as "fp8" or "int4", or None if unknown."""
    for table in (config, text):
        quantization = section(table, "quantization_config") or section(table, "compression_config")
        if quantization and (found := _quantized(quantization)):
            return found
    stated = word(config, "dtype", "torch_dtype") or word(text, "dtype", "torch_dtype")
    return DTYPES.get(stated.removeprefix("torch."))


def _quantized(quantization: Table) -> str | None:
    """Return the format that a `quantization_config` describes, or None if its weights are not quantized."""
    inner = section(quantization, "quantization")
    found = [*_formats(quantization), *(_formats(inner) if inner else ())]
    return next((name for name in NARROWEST_FIRST if name in found), None)


def _formats(table: Table) -> Iterator[str]:
    """Yield all formats that a description names."""
    method = word(table, "quant_method").replace("_", "-")
    if groups := section(table, "config_groups"):
        yield from _group_formats(groups, word(table, "format"))
    for name in ("quant_algo", "moe_quant_algo", "fmt_weight", "qformat_weight", "forward_dtype"):
        yield from _named(word(table, name))
    for algorithm in _layer_algorithms(section(table, "quantized_layers")):
        yield from _named(algorithm.lower())
    yield from _quark(section(table, "global_quant_config"))
    yield from _torchao(section(table, "quant_type"))
    if groups or method == "modelopt":
        return
    if word(table, "quant_method") in INTEGER_METHODS:
        yield _integer(table)
    elif method == "bitsandbytes":
        yield "int8" if table.get("load_in_8bit") is True else "int4"
    else:
        yield from _named(method)
        yield from _named(word(table, "format"))
        yield from _of_bits(table)


def _layer_algorithms(layers: Table) -> set[str]:
    """Return the different algorithms of a mixed checkpoint's layers."""
    tables = (layer for layer in islice(layers.values(), MAX_ENTRIES) if isinstance(layer, Mapping))
    return {name for name in (layer.get("quant_algo") for layer in tables) if isinstance(name, str)}


def _named(name: str) -> Iterator[str]:
    """Yield the format whose name is a part of `name`."""
    yield from islice((found for part, found in PARTS if part in name), 1)


def _integer(table: Table) -> str:
    """Return the format of AWQ, GPTQ and AutoRound weights; AutoRound also writes MXFP and NVFP4."""
    bits = count(table, "bits", "nbits", "w_bit") or 4
    kind = word(table, "data_type")
    if "nv_fp" in kind:
        return "nvfp4"
    if "mx_fp" in kind:
        return "mxfp4" if bits == 4 else "mxfp8"
    if kind.startswith("fp") and bits == 8:
        return "fp8"
    return "int4" if bits <= 4 else "int8"


def _of_bits(table: Table) -> Iterator[str]:
    """Yield an integer format for a method that states its bits only."""
    bits = count(table, "bits", "num_bits", "nbits")
    if 0 < bits <= 8:
        yield "int4" if bits <= 4 else "int8"


def _group_formats(groups: Table, whole: str) -> Iterator[str]:
    """Yield the formats of compressed-tensors' groups.

    A group has `weights` with bits and type, or its key is the name of a scheme.
    """
    for name, group in islice(groups.items(), MAX_ENTRIES):
        weights = section(group, "weights") if isinstance(group, Mapping) else {}
        if weights:
            yield from _weights_format(weights, (word(group, "format") or whole))
        elif isinstance(name, str):
            yield from _named(name.lower())


def _weights_format(weights: Table, layout: str) -> Iterator[str]:
    bits = count(weights, "num_bits")
    if word(weights, "type") != "float":
        if 0 < bits <= 8:
            yield "int4" if bits <= 4 else "int8"
        return
    micro = "mxfp" in layout or (count(weights, "group_size") == 32 and "uint8" in word(weights, "scale_dtype"))
    if bits == 4:
        yield "mxfp4" if micro else "nvfp4"
    elif bits == 8:
        yield "mxfp8" if micro else "fp8"


def _quark(whole: Table) -> Iterator[str]:
    """Yield the format of AMD Quark's weights."""
    weight = whole.get("weight")
    first = weight[0] if isinstance(weight, list) and weight else weight
    if not isinstance(first, Mapping):
        return
    kind, micro = word(first, "dtype"), word(first, "scale_format") == "e8m0"
    if kind.startswith("fp4"):
        yield "mxfp4"
    elif kind.startswith("fp8"):
        yield "mxfp8" if micro else "fp8"
    elif kind.startswith(("int4", "uint4")):
        yield "int4"
    elif kind.startswith("int8"):
        yield "int8"


def _torchao(kinds: Table) -> Iterator[str]:
    """Yield the format of torchao's default scheme, such as "Float8DynamicActivationFloat8WeightConfig"."""
    yield from _named(word(section(kinds, "default"), "_type"))
