"""What a start was given and what the pod had: hints for its failure follow from that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pi.vllm.arguments import Argument, Arguments

DEFAULT_SHARE = 0.92
"""vLLM's own share of a GPU's memory since 0.32 (`config/cache.py`)."""

DEFAULT_SEQUENCES = 256
"""vLLM's own, on most cards (`engine/arg_utils.py`, `_set_default_max_num_seqs_and_batched_tokens_args`)."""

LARGEST_SHARE = 0.95

LEAST_SHARE = 0.5

FEWEST_SEQUENCES = 8
"""A memory that is full with fewer sequences is not full because of them."""

MOST_GPUS = 8
"""Of one machine, if the pod is unknown."""


@dataclass(frozen=True)
class StartFacts:
    """The facts of one start; a field that is None is unknown."""

    args: Arguments = field(default_factory=Arguments)
    """vLLM's arguments."""
    env: Mapping[str, str] = field(default_factory=dict)
    share: float | None = None
    """Of each GPU's memory, 0 to 1."""
    context: int | None = None
    """In tokens."""
    gpus: int | None = None
    """How many it used; 0 on a CPU."""
    pod_gpus: int | None = None
    """How many GPUs of the pod the model could use."""
    card: str | None = None
    version: str | None = None
    """vLLM's version."""
    venv: str = "venv"
    """The folder of vLLM's venv in the pod's home."""
    variant: str | None = None
    smaller: str | None = None
    """Another checkpoint of the model that takes less memory and fits on the pod."""
    raw: bool = False
    """Whether the user set all arguments, after --vllm."""
    kernel: tuple[str, ...] = ()
    """Lines of the kernel's log, or of the container's counters, about this start."""

    @property
    def more_memory(self) -> int | None:
        """A larger share of each GPU's memory in percent."""
        share = self._share
        return round(100 * LARGEST_SHARE) if share < LARGEST_SHARE - 0.005 else None

    @property
    def less_memory(self) -> int | None:
        """A smaller share of each GPU's memory in percent: a multiple of 5."""
        percent = int((100 * self._share - 4) // 5 * 5)
        return percent if percent >= 100 * LEAST_SHARE else None

    @property
    def _share(self) -> float:
        given = self.args.get("--gpu-memory-utilization") or ""
        if self.share is None and re.fullmatch(r"0?\.\d{1,6}|1(\.0*)?", given):
            return float(given)
        return DEFAULT_SHARE if self.share is None else self.share

    @property
    def tensor(self) -> int | None:
        """GPUs that share each layer."""
        given = self.args.get("--tensor-parallel-size") or ""
        if re.fullmatch(r"[1-9]\d{0,3}", given):
            return int(given)
        return self.gpus

    @property
    def more_gpus(self) -> int | None:
        """The next larger number of GPUs, if the pod has them."""
        if self.gpus == 0:
            return None
        wanted = 2 * (self.tensor or 1)
        return wanted if wanted <= (MOST_GPUS if self.pod_gpus is None else self.pod_gpus) else None

    @property
    def fewer_gpus(self) -> int | None:
        """The next smaller power of two, which divides the sizes of most models."""
        return 1 << (self.tensor - 1).bit_length() - 1 if self.tensor and self.tensor > 1 else None

    @property
    def sequences(self) -> int:
        given = self.args.get("--max-num-seqs") or ""
        return int(given) if re.fullmatch(r"\d{1,9}", given) else DEFAULT_SEQUENCES

    @property
    def fewer_sequences(self) -> int | None:
        """A quarter: half of the sequences rarely free enough."""
        return max(FEWEST_SEQUENCES, self.sequences // 4) if self.sequences > FEWEST_SEQUENCES else None

    @property
    def shorter_context(self) -> int | None:
        if self.context is None or self.context < 2 * 4096:
            return None
        return self.context // 2

    def already(self, way: str) -> bool:
        """Return whether the start had what a hint names, such as "--memory 95%" or "--env NCCL_P2P_DISABLE=1"."""
        return any(self._has(flag, value) for flag, value in _FLAGS.findall(way))

    def _has(self, flag: str, value: str) -> bool:
        if flag == "--memory":
            return value == f"{round(100 * self._share)}%"
        if flag == "--gpus":
            return value == str(self.tensor if self.gpus is None else self.gpus)
        if flag == "--context":
            return value == str(self.context)
        if flag == "--variant":
            return value == self.variant
        name, joined, text = value.partition("=")
        if flag == "--env":
            return self.env.get(name) == text
        option = f"--{name}"
        return option in self.args and (not joined or self.args.get(option) == text)


_FLAGS = re.compile(r"(--(?:memory|gpus|context|variant|set|env)) (\S+?)(?=[,;)]?(?:\s|$))")


def read_facts(log: str) -> StartFacts:
    """Return what a log itself says of its start: arguments that are not vLLM's defaults, and vLLM's version."""
    log = log[:HEAD_CHARACTERS]
    found = re.search(r"non-default args: \{(.*)\}", log) or re.search(r"args: Namespace\((.*)\)", log)
    pairs = _PAIRS.findall(found[1][:20_000]) if found else []
    args = Arguments(tuple(_argument(*pair) for pair in pairs if _value_of(pair).usable))
    version = re.search(r"(?:vLLM API server version|LLM engine \(v)\s?(\d[\w.+]{1,40})", log)
    ranks = [int(rank) for rank in re.findall(r"\(\w*Worker(?:_TP|[ _]TP|\w* rank=)(\d{1,3})", log)]
    tensor = args.get("--tensor-parallel-size") or _engine_value(log, "tensor_parallel_size") or ""
    if not tensor and (ranks or found):
        tensor = str(max(ranks, default=0) + 1)
    length = args.get("--max-model-len") or ""
    on_cpu = re.search(r"device_config=cpu|VLLM_CPU_KVCACHE_SPACE|cpu_worker\.py|\[cpu\.py:", log)
    return StartFacts(
        args=args,
        gpus=0 if on_cpu else int(tensor) if re.fullmatch(r"[1-9]\d{0,3}", tensor) else None,
        context=int(length) if re.fullmatch(r"\d{1,9}", length) else None,
        version=version[1] if version else None,
    )


HEAD_CHARACTERS = 2 << 20
"""At the beginning of a log, where vLLM writes what it was given."""

_PAIRS = re.compile(r"(?:^|[{,(] ?)'?([a-z][a-z0-9_]{1,60})'?[:=] ?(?:'([^'\n]{0,200})'|(-?[\w.]{1,40}))(?=[,})]|$)")


class _Value(NamedTuple):
    text: str
    usable: bool


def _value_of(pair: tuple[str, str, str]) -> _Value:
    text = pair[1] or pair[2]
    return _Value(text, text not in ("None", "False", ""))


def _argument(name: str, quoted: str, bare: str) -> Argument:
    option, value = "--" + name.replace("_", "-"), quoted or bare
    return Argument(option, (option,) if value == "True" else (option, value))


def _engine_value(log: str, name: str) -> str | None:
    found = re.search(rf"\b{name}=(\d{{1,4}})\b", log)
    return found[1] if found else None
