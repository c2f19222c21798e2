"""What `pi top` shows: rates and percentiles, from samples of what vLLM counts since its start."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from pi import screen
from pi.calls.key import MAIN
from pi.calls.top import Bucket, GpuSample, Key, Metrics, ModelSample, Sample

if TYPE_CHECKING:
    from pi.steps.json_shapes import TopGpuJson, TopKeyJson, TopModelJson, TopPodJson

WINDOW_S = 60
"""Percentiles are of the requests of this time; of all requests, if there were none."""

RATE_S = 5
"""Tokens per second are the mean of this time."""

HEADERS = ("MODEL", "STATE", "RUN", "WAIT", "PROMPT/S", "OUT/S", "KV", "PREFIX", "TTFT P50/P95", "ITL P50/P95")

LATENCIES = HEADERS.index("TTFT P50/P95")
"""Columns from this one on are a table of their own on a narrow terminal."""

GPU_HEADERS = ("GPU", "USE", "MEMORY", "TEMP", "POWER")

KEY_HEADERS = ("KEY", "REQUESTS", "REQ/S", "LAST")


@dataclass(frozen=True)
class Percentiles:
    """In seconds; None without any observation."""

    p50: float | None
    p95: float | None

    def __str__(self) -> str:
        return f"{_seconds(self.p50)} / {_seconds(self.p95)}" if self.p50 is not None else "-"


@dataclass(frozen=True)
class Load:
    """A model's present load. Shares are from 0 to 1; None for what is not known yet."""

    name: str
    state: str
    running: int | None = None
    waiting: int | None = None
    prompt_per_s: float | None = None
    output_per_s: float | None = None
    ttft: Percentiles = Percentiles(None, None)
    itl: Percentiles = Percentiles(None, None)
    kv_share: float | None = None
    prefix_share: float | None = None

    def row(self) -> tuple[str, ...]:
        """Return its cells under HEADERS."""
        return (
            self.name,
            self.state,
            _count(self.running),
            _count(self.waiting),
            _count(self.prompt_per_s),
            _count(self.output_per_s),
            _percent(self.kv_share),
            _percent(self.prefix_share),
            str(self.ttft),
            str(self.itl),
        )

    def as_json(self) -> TopModelJson:
        return {
            "name": self.name,
            "state": self.state,
            "requests_running": self.running,
            "requests_waiting": self.waiting,
            "prompt_tokens_per_s": self.prompt_per_s,
            "generation_tokens_per_s": self.output_per_s,
            "ttft_p50_s": self.ttft.p50,
            "ttft_p95_s": self.ttft.p95,
            "itl_p50_s": self.itl.p50,
            "itl_p95_s": self.itl.p95,
            "kv_share": self.kv_share,
            "prefix_share": self.prefix_share,
        }


@dataclass(frozen=True)
class KeyLoad:
    """The requests that a key made; `per_s` is the mean of the last minute, None if it is not known yet."""

    key: Key
    per_s: float | None

    def row(self) -> tuple[str, ...]:
        """Return its cells under KEY_HEADERS."""
        used = self.key["used_s_ago"]
        last = "-" if used is None else screen.ago(used)
        return self.key["name"] or MAIN, f"{self.key['requests']:,}", _rate(self.per_s), last

    def as_json(self) -> TopKeyJson:
        used = self.key["used_s_ago"]
        return {
            "name": self.key["name"],
            "requests": self.key["requests"],
            "requests_per_s": self.per_s,
            "idle_seconds": None if used is None else int(used),
        }


@dataclass
class History:
    """The samples of one pod in the last minute."""

    samples: deque[Sample] = field(default_factory=deque)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        while sample["at"] - self.samples[0]["at"] > WINDOW_S:
            self.samples.popleft()

    @property
    def problem(self) -> str | None:
        return self.samples[-1]["problem"] if self.samples else None

    def loads(self) -> list[Load]:
        """Return the load of each model of the last sample."""
        return [self._load(model) for model in self.samples[-1]["models"]] if self.samples else []

    def gpus(self) -> list[GpuSample]:
        return self.samples[-1]["gpus"] if self.samples else []

    def key_loads(self) -> list[KeyLoad]:
        """Return the requests of each key of the last sample."""
        if not self.samples:
            return []
        now = self.samples[-1]
        return [KeyLoad(key, self._requests_per_s(key, now["at"])) for key in now["keys"]]

    def _requests_per_s(self, key: Key, now: float) -> float | None:
        """Return the mean rate since the first sample that has the key; a key made again counts from there."""
        counts = [
            (sample["at"], old["requests"])
            for sample in self.samples
            for old in sample["keys"]
            if old["name"] == key["name"] and old["added"] == key["added"] and old["requests"] <= key["requests"]
        ]
        at, requests = counts[0]
        return (key["requests"] - requests) / (now - at) if now > at else None

    def output_rates(self, name: str) -> list[float]:
        """Return the generated tokens per second between each two samples."""
        found = self._metrics(name)
        return [
            max(0.0, (new["generation_tokens"] - old["generation_tokens"]) / max(0.001, at - before))
            for (before, old), (at, new) in pairwise(found)
        ]

    def gpu_use(self, index: int) -> list[float]:
        cards = [card for sample in self.samples for card in sample["gpus"] if card["index"] == index]
        return [card["use"] for card in cards if card["use"] is not None]

    def _metrics(self, name: str) -> list[tuple[float, Metrics]]:
        """Return when and what a model reported since it was last started."""
        found: list[tuple[float, Metrics]] = []
        for sample in self.samples:
            for model in sample["models"]:
                if model["name"] == name and (metrics := model["metrics"]):
                    is_new = bool(found) and metrics["generation_tokens"] < found[-1][1]["generation_tokens"]
                    found = [*([] if is_new else found), (sample["at"], metrics)]
        return found

    def _load(self, model: ModelSample) -> Load:
        now, found = model["metrics"], self._metrics(model["name"])
        if now is None:
            return Load(model["name"], model["state"])
        at, first = found[-1][0], found[0][1]
        recent, old = next((at - then, metrics) for then, metrics in found if at - then <= RATE_S)
        queries, hits = (now[key] - first[key] for key in ("prefix_queries", "prefix_hits"))
        if queries <= 0:
            queries, hits = now["prefix_queries"], now["prefix_hits"]
        return Load(
            model["name"],
            model["state"],
            round(now["running"]),
            round(now["waiting"]),
            (now["prompt_tokens"] - old["prompt_tokens"]) / recent if recent > 0 else None,
            (now["generation_tokens"] - old["generation_tokens"]) / recent if recent > 0 else None,
            percentiles(now["ttft"], first["ttft"]),
            percentiles(now["itl"], first["itl"]),
            now["kv_share"],
            hits / queries if queries > 0 else None,
        )


def percentiles(now: Sequence[Bucket], before: Sequence[Bucket]) -> Percentiles:
    """Return percentiles of what came between two samples, or of everything if nothing came."""
    old = {bucket["le"]: bucket["count"] for bucket in before}
    fresh = [(bucket["le"], bucket["count"] - old.get(bucket["le"], 0)) for bucket in now]
    if not fresh or fresh[-1][1] <= 0:
        fresh = [(bucket["le"], bucket["count"]) for bucket in now]
    p50, p95 = (_quantile(fresh, share) for share in (0.5, 0.95))
    return Percentiles(p50 and round(p50, 6), p95 and round(p95, 6))


def _quantile(buckets: Sequence[tuple[float | None, float]], share: float) -> float | None:
    """Return a quantile as Prometheus does: linear inside a bucket, and the highest bound above them."""
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank, low, below = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound is None:
                return low
            return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
        low, below = bound or 0.0, count
    return low


Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Headers and rows."""


def model_tables(headers: tuple[str, ...], rows: list[tuple[str, ...]], columns: int | None) -> list[Table]:
    """Return the table of the models; on a terminal that is too narrow for it, two of them, each with the names."""
    if columns is None or screen.table_width(rows, headers) <= columns:
        return [(headers, rows)]

    def part(first: int, end: int | None) -> Table:
        return (headers[0], *headers[first:end]), [(row[0], *row[first:end]) for row in rows]

    return [part(1, LATENCIES), part(LATENCIES, None)]


def gpu_row(card: GpuSample) -> tuple[str, ...]:
    """Return the cells of a GPU under GPU_HEADERS."""
    used, memory = card["used_mib"], card["memory_mib"]
    return (
        str(card["index"]),
        "-" if card["use"] is None else f"{card['use']:.0f} %",
        "-" if used is None or memory is None else f"{used / 1024:.1f} of {memory / 1024:.1f} GB",
        "-" if card["celsius"] is None else f"{card['celsius']:.0f} °C",
        "-" if card["watts"] is None else f"{card['watts']:.0f} W",
    )


def show(pod: str, history: History) -> None:
    """Print the tables of one pod."""
    if history.problem:
        screen.note(f"{pod}: {history.problem}")
    if loads := history.loads():
        for headers, rows in model_tables(HEADERS, [load.row() for load in loads], screen.width()):
            screen.table(rows, headers, shrink="MODEL")
    else:
        screen.say(f"no models on {pod}; start one: pi start MODEL --name NAME")
    if cards := history.gpus():
        screen.say()
        screen.table([gpu_row(card) for card in cards], GPU_HEADERS)
    if keys := history.key_loads():
        screen.say()
        screen.table([each.row() for each in keys], KEY_HEADERS)


def as_json(pod: str, history: History) -> TopPodJson:
    return {
        "pod": pod,
        "error": None,
        "problem": history.problem,
        "models": [load.as_json() for load in history.loads()],
        "gpus": [_gpu_json(card) for card in history.gpus()],
        "keys": [each.as_json() for each in history.key_loads()],
    }


def _gpu_json(card: GpuSample) -> TopGpuJson:
    return {
        "index": card["index"],
        "use_percent": card["use"],
        "used_mib": card["used_mib"],
        "memory_mib": card["memory_mib"],
        "celsius": card["celsius"],
        "watts": card["watts"],
    }


def _count(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f}" if 0 < number < 10 and number % 1 else f"{number:,.0f}"


def _rate(per_s: float | None) -> str:
    return "-" if per_s is None else f"{per_s:.2f}" if 0 < per_s < 1 else _count(per_s)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _seconds(duration: float | None) -> str:
    if duration is None:
        return "-"
    return f"{duration:.1f} s" if duration >= 1 else f"{1000 * duration:.0f} ms"
