"""Speculative decoding: small heads or models that draft tokens, which the model then checks in one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pi.model_id import ModelId
from pi.planning.sizes import UNKNOWN, Size
from pi.vllm.arguments import Arguments

GOOD_UP_TO = 32
"""Requests at once up to which drafting is assumed to pay. A card that computes for more has no idle units left."""

UNKNOWN_PART, UNKNOWN_MOST_GB = 0.1, 4.0
"""Assumed weights of a draft model of unknown size: this part of the model, at most so many GB.
Known ones: 1.6 GB beside gpt-oss-20b, 3.5 GB beside Qwen3.6-27B, 2.2 GB beside Laguna-S-2.1."""

_KEYS = frozenset(["args", "on", "extra_gb", "good_up_to", "default"])


@dataclass(frozen=True)
class Draft:
    """How to draft tokens for one checkpoint.

    `repository` is the draft model's id, or None if the checkpoint contains the heads. `extra_gb` are its weights in
    10^9 bytes. `tokens` are drafted in each step. Drafting pays for up to `good_up_to` requests at once. `on` replaces
    `args` on some hardware; an empty list means that it does not work there.
    """

    args: Arguments
    method: str
    tokens: int
    repository: ModelId | None = None
    extra_gb: float = 0.0
    good_up_to: int = GOOD_UP_TO
    default: bool = False
    on: Mapping[str, Arguments] = field(default_factory=dict)

    def args_on(self, labels: frozenset[str]) -> Arguments:
        """Return the arguments on hardware with these labels, empty if drafting does not work there."""
        return next((args for label, args in self.on.items() if label in labels), self.args)


def read(table: Mapping[str, Any], model: str, weights_gb: float, sizes: Mapping[str, Size]) -> Draft:
    """Read the key `draft` of a model or a checkpoint.

    Raises KeyError, TypeError, ValueError or AttributeError if it is invalid.
    """
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)} in draft")
    args, config = _parsed(tuple(table["args"]))
    repository = ModelId(config["model"]) if config.get("model", model) != model else None
    return Draft(
        args=args,
        method=config.get("method", "mtp"),
        tokens=int(config["num_speculative_tokens"]),
        repository=repository,
        extra_gb=float(table.get("extra_gb", _extra_gb(repository, weights_gb, sizes))),
        good_up_to=table.get("good_up_to", GOOD_UP_TO),
        default=table.get("default", False),
        on={label: Arguments.parse(words) for label, words in table.get("on", {}).items()},
    )


@lru_cache(maxsize=256)
def _parsed(words: tuple[str, ...]) -> tuple[Arguments, dict[str, Any]]:
    """Return the arguments and what --speculative-config contains. A model's checkpoints share them."""
    args = Arguments.parse(words)
    config = json.loads(args.get("--speculative-config") or "null")
    if not isinstance(config, dict):
        raise ValueError("draft without --speculative-config and its JSON")
    return args, config


def _extra_gb(repository: str | None, weights_gb: float, sizes: Mapping[str, Size]) -> float:
    if repository is None:
        return 0.0
    known = sizes.get(repository.lower(), UNKNOWN).weights_gb
    return known if known is not None else min(UNKNOWN_PART * weights_gb, UNKNOWN_MOST_GB)
