"""Arguments of vLLM that determine its memory: tokens and sequences of a step, format of the cache, compilation."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pi.planning.adapters import DEFAULT_RANK
from pi.planning.cuda_memory import Card
from pi.planning.tuning import kv_number_bytes
from pi.vllm.arguments import Arguments
from pi.vllm.settings import number_of

MOST_SEQUENCES = 128
"""Requests that one to a hundred users send at a time. vLLM's own default is 256 or 1024: it takes memory for logits
and CUDA graphs, and stops at the start if layers with a state have fewer blocks."""

BATCHES_IN_FLIGHT = 2
"""Steps that vLLM schedules before the first one is settled (`VllmConfig.max_concurrent_batches`, asynchronous)."""


@dataclass(frozen=True)
class Serving:
    """Settings of one server: `tokens` and `sequences` of a step, `number_bytes` of a number in the KV cache.

    `compiled` and `captured` are torch.compile and CUDA graphs; a `first` start has no compilation in its cache.
    `vision_split` means that tensor parallelism splits the vision tower; `drafts` is the number of speculative tokens.
    `lora_slots` adapters of at most `lora_rank` are served at a time. pi may plan fewer `sequences`, unless they are
    `fixed`. `largest_graph` is the user's limit of the batch sizes that vLLM captures.
    """

    tokens: int
    sequences: int = MOST_SEQUENCES
    number_bytes: int = 2
    prefix_caching: bool = True
    windows: bool = True
    vision: bool = True
    vision_split: bool = True
    compiled: bool = True
    captured: bool = True
    first: bool = True
    drafts: int = 0
    lora_slots: int = 0
    lora_rank: int = DEFAULT_RANK
    fixed: bool = False
    largest_graph: int | None = None


def serving_of(args: Arguments, card: Card, fixed: bool = False) -> Serving:
    """Read the settings from a plan's arguments; vLLM's defaults of this GPU fill the gaps.

    `fixed` means that the user set the number of sequences: pi plans with it, not with fewer.
    """
    eager = "--enforce-eager" in args
    sequences = _count(args.get("--max-num-seqs"))
    return Serving(
        tokens=_count(args.get("--max-num-batched-tokens")) or default_tokens(card),
        sequences=sequences if sequences and fixed else min(MOST_SEQUENCES, sequences or MOST_SEQUENCES),
        number_bytes=kv_number_bytes(args),
        prefix_caching="--no-enable-prefix-caching" not in args,
        windows="--disable-hybrid-kv-cache-manager" not in args,
        vision="--language-model-only" not in args,
        vision_split=args.get("--mm-encoder-tp-mode") != "data",
        compiled=not eager,
        captured=not eager,
        drafts=_drafts(args.get("--speculative-config")),
        lora_slots=(_count(args.get("--max-loras")) or 1) if "--enable-lora" in args else 0,
        lora_rank=_count(args.get("--max-lora-rank")) or DEFAULT_RANK,
        fixed=fixed and sequences is not None,
        largest_graph=_count(args.get("--max-cudagraph-capture-size")),
    )


def default_tokens(card: Card) -> int:
    """Return vLLM's `--max-num-batched-tokens` for a server (`EngineArgs.get_batch_defaults`, 0.33.0)."""
    if card.total_gib >= 160:
        return 16384
    return 8192 if card.total_gib >= 70 and not card.a100 and not card.unified else 2048


def _count(text: str | None) -> int | None:
    """Return a number as vLLM reads it, such as 8000 of "8k", or None."""
    number = number_of(text) if text else None
    return number if number and number < 10**9 else None


def _drafts(text: str | None) -> int:
    if text is None:
        return 0
    try:
        value = json.loads(text).get("num_speculative_tokens")
    except (ValueError, AttributeError):
        return 0
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 100 else 0
