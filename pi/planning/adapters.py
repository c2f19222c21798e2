"""LoRA adapters (`--lora NAME=ID`): small weights that vLLM serves beside a model, each under a name of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pi.errors import InputError
from pi.model_id import ModelId
from pi.pods.types import NAME
from pi.text import one_line
from pi.vllm.arguments import Arguments

DEFAULT_RANK = 16
"""vLLM's own `--max-lora-rank`."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` (`MaxLoRARanks` in vllm/config/lora.py, 0.32 and 0.33)."""


@dataclass(frozen=True)
class Adapter:
    """An adapter that a user requests: the name that requests use, and its repository or path."""

    name: str
    source: ModelId


@dataclass(frozen=True)
class AdapterFacts:
    """What `adapter_config.json` says: the highest rank, and the id of the base model. None if unknown."""

    rank: int | None = None
    base: str | None = None
    absent: bool = False
    """Whether it is a path that the pod does not have."""


def parse(texts: Sequence[str]) -> tuple[Adapter, ...]:
    """Return the adapters of all `--lora`. Raises InputError for a wrong or repeated name."""
    adapters: dict[str, Adapter] = {}
    for text in texts:
        name, joined, source = text.partition("=")
        if not joined or not source:
            raise InputError("lora-invalid", f"invalid --lora {text[:80]!r}", "use --lora NAME=ID, such as sql=me/sql")
        if not NAME.fullmatch(name):
            raise InputError(
                "name-invalid", f"invalid adapter name {name[:80]!r}", "use letters, digits, dot, dash, underscore"
            )
        if name in adapters:
            raise InputError("lora-repeated", f"--lora {name} is given twice", "give each adapter its own name")
        adapters[name] = Adapter(name, ModelId.parse(source))
    return tuple(adapters.values())


def arguments(adapters: Sequence[Adapter], ranks: Iterable[int | None]) -> Arguments:
    """Return vLLM's arguments that serve these adapters beside each other.

    `ranks` are those of the adapters; None leaves vLLM's limit. Raises InputError for a rank above the highest.
    """
    modules = [f"{adapter.name}={adapter.source}" for adapter in adapters]
    args = Arguments().set("--enable-lora").set("--lora-modules", *modules)
    if len(adapters) > 1:
        args = args.set("--max-loras", len(adapters))
    rank = max((rank for rank in ranks if rank), default=DEFAULT_RANK)
    if rank > RANKS[-1]:
        raise InputError("lora-rank", f"an adapter has rank {rank}, but vLLM serves at most {RANKS[-1]}")
    return args.set("--max-lora-rank", limit) if (limit := _limit(rank)) != DEFAULT_RANK else args


def _limit(rank: int) -> int:
    """Return the lowest `--max-lora-rank` for a rank, at least vLLM's own."""
    return next(limit for limit in RANKS if limit >= max(rank, DEFAULT_RANK))


def reason(adapter: Adapter, facts: AdapterFacts | None) -> str:
    rank = f", rank {facts.rank}" if facts and facts.rank else ""
    return f"adapter {adapter.name}: {adapter.source}{rank}; requests name it as their model"


def doubts(adapter: Adapter, facts: AdapterFacts | None, models: Iterable[str]) -> tuple[str, ...]:
    """Return warnings about an adapter on a model with these ids."""
    if facts is None or not facts.rank:
        return (f"the rank of adapter {adapter.name} is unknown; if vLLM rejects it: --set max-lora-rank=N",)
    is_other = facts.base and facts.base.lower() not in {model.lower() for model in models}
    if is_other and not ModelId(str(facts.base)).is_path:
        return (f"adapter {adapter.name} was made for {one_line(str(facts.base), 80)}",)
    return ()
