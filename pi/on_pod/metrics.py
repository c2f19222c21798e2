"""vLLM's own figures: the text of `/metrics`, parsed by prometheus_client from vLLM's venv."""

from __future__ import annotations

import glob
import importlib
import math
import os
import sys
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from pi.on_pod.top_shapes import Bucket, Metrics
from pi.on_pod.venvs import VENV

SUMS = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "generation_tokens": ("vllm:generation_tokens_total",),
    "prefix_queries": ("vllm:prefix_cache_queries_total",),
    "prefix_hits": ("vllm:prefix_cache_hits_total",),
}
"""Names of vLLM 0.33.0 (`vllm/v1/metrics/loggers.py`); the figures of several engines are added."""

KV = "vllm:kv_cache_usage_perc"

HISTOGRAMS = {
    "ttft": ("vllm:time_to_first_token_seconds",),
    "itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
}
"""The first name that the server has; vLLM before 0.11 has the last."""

_NAMES = tuple(name for names in [*SUMS.values(), (KV,), *HISTOGRAMS.values()] for name in names)

_BEGINNINGS = tuple(
    begin + name.replace("_total", "") if begin else name for begin in ("", "# TYPE ") for name in _NAMES
)

Parse = Callable[[str], Iterable[Any]]


def parser() -> Optional[Parse]:
    """Return prometheus_client's parser from ~/venv, or None if it is not there."""
    for folder in glob.glob(os.path.join(glob.escape(VENV), "lib/python3*/site-packages")):
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        parse: Parse = importlib.import_module("prometheus_client.parser").text_string_to_metric_families
    except Exception:
        return None
    return parse


def read(text: str, parse: Parse) -> Optional[Metrics]:
    """Return the figures in the text of `/metrics`; None if it has none of vLLM."""
    whole = text.rpartition("\n")[0]  # a long answer may be cut anywhere
    lines = [line for line in whole.split("\n") if line.startswith(_BEGINNINGS)]  # a tenth: parsing takes time
    values: Dict[str, List[Tuple[Dict[str, str], float]]] = {}
    try:
        for family in parse("\n".join(lines) + "\n"):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    values.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
    except ValueError:
        return None
    if SUMS["running"][0] not in values:
        return None
    shares = [value for _, value in values.get(KV, [])]
    sums = {key: sum(value for _, value in values.get(names[0], [])) for key, names in SUMS.items()}
    return {
        "running": sums["running"],
        "waiting": sums["waiting"],
        "kv_share": min(1.0, max(0.0, sum(shares) / len(shares))) if shares else None,
        "prompt_tokens": sums["prompt_tokens"],
        "generation_tokens": sums["generation_tokens"],
        "prefix_queries": sums["prefix_queries"],
        "prefix_hits": sums["prefix_hits"],
        "ttft": _histogram(values, HISTOGRAMS["ttft"]),
        "itl": _histogram(values, HISTOGRAMS["itl"]),
    }


def _histogram(values: Dict[str, List[Tuple[Dict[str, str], float]]], names: Tuple[str, ...]) -> List[Bucket]:
    """Return the buckets of a histogram by their bounds, summed over engines."""
    found = next((values[name + "_bucket"] for name in names if name + "_bucket" in values), [])
    counts: Dict[float, float] = {}
    for labels, value in found:
        bound = float(labels["le"])
        counts[bound] = counts.get(bound, 0) + value
    return [{"le": None if math.isinf(bound) else bound, "count": counts[bound]} for bound in sorted(counts)]


def without(found: Metrics, prompt_tokens: int, generation_tokens: int) -> Metrics:
    """Return figures without tokens that were no use."""
    now = Metrics(**found)
    now["prompt_tokens"] = max(0.0, now["prompt_tokens"] - prompt_tokens)
    now["generation_tokens"] = max(0.0, now["generation_tokens"] - generation_tokens)
    return now
