"""Correct one argument after a failed start, if vLLM's log names a number that works or the argument that is too large.

The texts are those of vLLM 0.32 and 0.33. A number that vLLM states is kept a little smaller if memory decides it,
because the memory that is free differs by a few MB from start to start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pi.vllm.arguments import Arguments
from pi.vllm.log import Failure, explain
from pi.vllm.start_facts import DEFAULT_SEQUENCES, FEWEST_SEQUENCES

SEQUENCES, BATCH, CONTEXT, SHARE, CAPTURE = (
    "--max-num-seqs",
    "--max-num-batched-tokens",
    "--max-model-len",
    "--gpu-memory-utilization",
    "--max-cudagraph-capture-size",
)

LEAST_CONTEXT = 4096
"""Shortest context in tokens that pi corrects to; a shorter one is not useful."""

BLOCK_TOKENS = 128
"""A multiple of the KV block on a GPU (16), and the block on a CPU."""

KEPT_BLOCKS = 0.95
"""Part of the state blocks that sequences may use."""

KEPT_SHARE = 0.9
"""Least part of the planned memory share; if less is free, another process uses the GPU."""

LARGEST_BATCH = 32768
"""Most tokens to which pi enlarges a batch; activations of more take several GiB."""


@dataclass(frozen=True)
class Correction:
    """Another value for one option of vLLM, and vLLM's reason in words."""

    option: str
    value: str
    reason: str

    def applied(self, args: Arguments) -> Arguments:
        return args.set(self.option, self.value)


def correction(log: str, exit_code: int | None, args: Arguments, fixed: Iterable[str] = ()) -> Correction | None:
    """Return how to correct `args` after the failed start that wrote `log`; None if vLLM names no usable number.

    `fixed` are the options that the user set; pi never changes them.
    """
    failure, given = explain(log, exit_code), tuple(fixed)
    proposals = [*_capture(failure, log, args)] or [*_stated(failure.cause)]
    usable = (one for one in proposals if not is_fixed(one.option, given) and one.value != args.get(one.option))
    return next(usable, None)


def is_fixed(option: str, fixed: Iterable[str]) -> bool:
    """Return whether the user set an option, perhaps by its beginning: vLLM takes --max-num-s for --max-num-seqs."""
    return any(option.startswith(given) for given in fixed)


def _stated(cause: str) -> Iterator[Correction]:
    """Yield corrections by the numbers in the cause, the better one first."""
    for pattern, propose in RULES:
        if match := re.search(pattern, cause):
            yield from propose(*match.groups())
            return


def _state_blocks(sequences: str, blocks: str) -> Iterator[Correction]:
    if int(blocks) > 0:
        fewer = max(1, int(int(blocks) * KEPT_BLOCKS))
        yield Correction(SEQUENCES, str(fewer), f"its memory holds the states of {blocks} sequences, not {sequences}")


def _estimated_context(wanted: str, estimate: str) -> Iterator[Correction]:
    tokens = int(estimate) // BLOCK_TOKENS * BLOCK_TOKENS
    if LEAST_CONTEXT <= tokens < int(wanted):
        yield Correction(CONTEXT, str(tokens), f"its memory holds a context of {estimate} tokens, not {wanted}")


def _model_context(wanted: str, own: str) -> Iterator[Correction]:
    yield Correction(CONTEXT, own, f"the model's context is {own} tokens, not {wanted}")


def _warm_up(sequences: str) -> Iterator[Correction]:
    yield from _fewer(int(sequences), f"the GPU is full when {sequences} sequences are tried")


def _fewer(sequences: int, reason: str, option: str = SEQUENCES) -> Iterator[Correction]:
    """Propose a quarter: half of the sequences rarely free enough, and pi tries once."""
    if sequences > FEWEST_SEQUENCES:
        yield Correction(option, str(max(FEWEST_SEQUENCES, sequences // 4)), reason)


def _batch_below_context(batch: str, context: str) -> Iterator[Correction]:
    reason = f"a batch of {batch} tokens is smaller than the context of {context}"
    if int(context) <= LARGEST_BATCH:
        yield Correction(BATCH, context, reason)
    if int(batch) >= LEAST_CONTEXT:
        yield Correction(CONTEXT, batch, reason)


def _batch_below_sequences(batch: str, sequences: str) -> Iterator[Correction]:
    reason = f"a batch of {batch} tokens is smaller than {sequences} sequences"
    yield Correction(SEQUENCES, batch, reason)
    yield Correction(BATCH, sequences, reason)


def _batch_below_item(item: str, batch: str) -> Iterator[Correction]:
    yield Correction(BATCH, item, f"an image or video has up to {item} tokens, more than a batch of {batch}")


def _free_share(free: str, total: str, share: str) -> Iterator[Correction]:
    percent = int(100 * float(free) / float(total)) if float(total) else 0
    if KEPT_SHARE * float(share) <= percent / 100 < float(share):
        yield Correction(SHARE, f"{percent / 100:g}", f"{percent}% of the GPU's memory is free")


def _capture(failure: Failure, log: str, args: Arguments) -> Iterator[Correction]:
    """Yield corrections if the memory was full while vLLM captured CUDA graphs."""
    if CAPTURES.isdisjoint(failure.calls) or not re.search(OUT_OF_MEMORY, log):
        return
    given = args.get(SEQUENCES) or ""
    sequences = int(given) if re.fullmatch(NUMBER, given) else DEFAULT_SEQUENCES
    reason = "the GPU is full when vLLM captures CUDA graphs"
    yield from _fewer(sequences, reason)
    yield from _fewer(sequences, reason, CAPTURE)


CAPTURES = frozenset({"capture_model", "profile_cudagraph_memory"})
"""Functions of vLLM that capture CUDA graphs (`v1/worker/gpu_model_runner.py`, `v1/worker/gpu/model_runner.py`)."""

OUT_OF_MEMORY = r"CUDA out of memory|CUDA error: out of memory|HIP out of memory"

NUMBER = r"\d{1,9}"

_GIB = r"\d{1,6}(?:\.\d{1,4})?"

RULES: tuple[tuple[str, Callable[..., Iterator[Correction]]], ...] = (
    (rf"max_num_seqs \(({NUMBER})\) exceeds available Mamba cache blocks \(({NUMBER})\)", _state_blocks),
    (rf"max seq len \(({NUMBER})\).{{1,200}}estimated maximum model length is ({NUMBER})\b", _estimated_context),
    (rf"max_model_len \(({NUMBER})\) is greater than the derived max_model_len \([a-z_]+=({NUMBER})\b", _model_context),
    (rf"out of memory occurred when warming up .{{1,80}}with ({NUMBER}) dummy requests", _warm_up),
    (rf"max_num_batched_tokens \(({NUMBER})\) is smaller than max_model_len \(({NUMBER})\)", _batch_below_context),
    (
        rf"max_num_batched_tokens \(({NUMBER})\) must be greater than or equal to max_num_seqs \(({NUMBER})\)",
        _batch_below_sequences,
    ),
    (rf"max_tokens_per_mm_item \(({NUMBER})\) is larger than max_num_batched_tokens \(({NUMBER})\)", _batch_below_item),
    (
        rf"Free memory on device .{{0,20}}\(({_GIB})/({_GIB}) GiB\) on startup is less than desired"
        rf" GPU memory utilization \(({_GIB}), ",
        _free_share,
    ),
)
"""What vLLM says, and the corrections for its numbers. The first match applies."""
