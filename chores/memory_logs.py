"""Hold the memory sum against public start-up logs of vLLM, and fit its constants to them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pi.planning.config_reader import read_network
from pi.planning.cuda_memory import Card
from pi.planning.network import Layers, Network
from pi.planning.overhead import FITTED, Coefficients, Terms, terms
from pi.planning.serving import Serving, default_tokens
from pi.planning.split import Split

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"

LOGS = json.loads((FIXTURES / "memory-logs.json").read_text())

COUNTED_SINCE = (0, 20)
"""First vLLM whose budget contains the CUDA graphs; older logs are reported, not judged."""

OWN_PRIOR = (FITTED.base, FITTED.rtx, FITTED.link)

STEADY = 0.1
"""Weight of the present constants against one log each: with few logs, a family's absence must not turn a sign."""


@dataclass(frozen=True)
class Log:
    """One row of memory-logs.json: what a start-up log states."""

    row: dict[str, Any]

    @property
    def name(self) -> str:
        number = LOGS["logs"].index(self.row)
        return f"{number} {self.row['model'].rpartition('/')[2]} on {self.row.get('gpu', 'an unknown GPU')}"

    @property
    def family(self) -> str:
        return str(LOGS["networks"][self.row["network"]]["family"])

    @property
    def complete(self) -> bool:
        """Whether it states the share, CUDA's total, the weights and the room for the KV cache of a known network."""
        facts = ("share", "cuda_total_gib", "kv_gib", "weights_gib", "network")
        return all(self.row.get(key) is not None for key in facts)

    @property
    def judged(self) -> bool:
        """Whether vLLM itself made it, on a GPU with memory of its own, and counted CUDA graphs."""
        version = re.match(r"(\d+)\.(\d+)", str(self.row.get("vllm") or "0.99"))
        recent = version is None or (int(version[1]), int(version[2])) >= COUNTED_SINCE
        ours = self.row["platform"] == "cuda" and "fork" not in str(self.row.get("vllm"))
        return self.complete and recent and ours and not self.card.unified

    @cached_property
    def network(self) -> Network:
        facts = LOGS["networks"][self.row["network"]]
        if "config" in facts:
            config = json.loads((FIXTURES / "configs" / f"{facts['config']}.json").read_text())
            return cast("Network", read_network(config))
        groups = tuple(Layers(**group) for group in facts["groups"])
        sizes = {key: facts[key] for key in ("hidden", "vocabulary", "experts", "multimodal", "depth") if key in facts}
        return Network(groups, facts.get("heads", 0), **sizes)

    @property
    def card(self) -> Card:
        name, total = self.row.get("gpu", ""), self.row.get("cuda_total_gib", 0.0)
        rtx = re.search(r"RTX 50\d\d|RTX PRO", name) is not None
        return Card(total, total, rtx=rtx, unified="GB10" in name, a100="A100" in name, sorts=rtx)

    @property
    def split(self) -> Split:
        row = self.row
        return Split(row["tp"], row["pp"], row["dp"], expert=row["dp"] > 1)

    @property
    def serving(self) -> Serving:
        """Return what the log states, and vLLM's defaults for the rest."""
        row, words = self.row, self.row.get("extra_args", "")
        large = self.card.total_gib >= 70 and not self.card.a100 and not self.card.unified
        eager = "eager" in words
        return Serving(
            tokens=row.get("max_num_batched_tokens") or default_tokens(self.card),
            sequences=row.get("max_num_seqs") or (1024 if large else 256),
            number_bytes=1 if str(row.get("kv_dtype")).startswith("fp8") else 2,
            prefix_caching="no-enable-prefix-caching" not in words and "no prefix cache" not in words,
            vision="language-model-only" not in words,
            compiled=not eager,
            captured=not eager,
            first="compile cache warm" not in row.get("note", ""),
        )

    @cached_property
    def terms(self) -> Terms:
        vision_gib = LOGS["networks"][self.row["network"]].get("vision_gib")
        return terms(self.network, self.split, self.card, self.serving, self.serving.sequences, vision_gib)

    @property
    def overhead_gib(self) -> float:
        """What vLLM took besides weights and KV cache."""
        row = self.row
        return float(row["share"] * row["cuda_total_gib"] - row["weights_gib"] - row["kv_gib"])

    @property
    def own_gib(self) -> float | None:
        """What the log states of CUDA's and NCCL's own memory."""
        row = self.row
        if row.get("non_torch_gib") is not None:
            return float(row["non_torch_gib"])
        consumed, weights = row.get("consumed_gib"), row.get("weights_gib")
        return float(consumed - weights) if consumed and weights else None

    def boldness(self, fit: Coefficients = FITTED) -> float:
        """Return by what part of the GPU's memory the sum promises too much room (below 0: too little)."""
        return float((self.overhead_gib - self.terms.gib(fit)) / self.row["cuda_total_gib"])


def logs() -> list[Log]:
    return [Log(row) for row in LOGS["logs"]]


def fitted(known: Iterable[Log]) -> Coefficients:
    """Fit the constants to what logs state of CUDA's own memory and of the estimate of the CUDA graphs."""
    known = [log for log in known if log.judged and log.split.data == 1]
    own = [(log, log.own_gib - log.terms.fixed) for log in known if log.own_gib is not None]
    base, rtx, link = least_squares(
        [(1.0, log.terms.rtx, log.terms.link) for log, _ in own], [gib for _, gib in own], OWN_PRIOR
    )
    graphs = [(log, log.row["graph_estimate_gib"]) for log in known if log.row.get("graph_estimate_gib") is not None]
    capture, graph = least_squares(
        [(1.0, log.terms.graphs / 1000) for log, _ in graphs],
        [gib for _, gib in graphs],
        (FITTED.capture, FITTED.graph * 1000),
    )
    return Coefficients(base, rtx, link, capture, graph / 1000)


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float], prior: Sequence[float]) -> list[float]:
    """Return the factors of the columns that come closest to `values`, drawn slightly to `prior`."""
    columns = range(len(prior))
    matrix = [
        [sum(row[i] * row[j] for row in rows) + STEADY * (i == j) for j in columns]
        + [sum(row[i] * value for row, value in zip(rows, values, strict=True)) + STEADY * prior[i]]
        for i in columns
    ]
    for i in columns:  # Gauss-Jordan; the matrix is positive definite
        matrix[i] = [number / matrix[i][i] for number in matrix[i]]
        for k in columns:
            if k != i:
                matrix[k] = [a - matrix[k][i] * b for a, b in zip(matrix[k], matrix[i], strict=True)]
    return [row[-1] for row in matrix]


def left_out() -> dict[str, float]:
    """Return how bold the sum is for each judged log, with constants fitted without the log's family."""
    judged = [log for log in logs() if log.judged]
    fits = {family: fitted(log for log in judged if log.family != family) for family in {log.family for log in judged}}
    return {log.name: log.boldness(fits[log.family]) for log in judged}


def report(say: Callable[[str], None]) -> None:
    """Print the fitted constants, each judged log without its family, and the others as they are."""
    say(f"fitted: {fitted(logs())}")
    for name, bold in sorted(left_out().items(), key=lambda item: item[1]):
        say(f"{bold:+7.1%}  {name}")
    say("not judged (older, forks, GB10):")
    for log in logs():
        if log.complete and not log.judged and log.row["platform"] == "cuda":
            say(f"{log.boldness():+7.1%}  {log.name}, vLLM {log.row.get('vllm')}")
