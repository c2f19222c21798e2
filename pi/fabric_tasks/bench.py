"""`pi bench`: measure a model with vLLM's own benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls import bench as calls
from pi.calls.events import Event, Progress
from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand, switch, tail
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.pods import apis
from pi.pods.types import check_name
from pi.steps import benchmarks, heads, where
from pi.steps.benchmarks import Level, Result

MOST_AT_ONCE, MOST_LEVELS, MOST_TOKENS = 4096, 12, 10**6


@dataclass(frozen=True)
class BenchOptions(PodOptions):
    name: str | None = operand("[NAME]", "which model", completes="name")
    concurrency: str = flag("1,4,16", "how many requests at the same time, one level after the other", "1,4,16")
    input: int = flag("TOKENS", "tokens of each request's input", 1024)
    output: int = flag("TOKENS", "tokens of each answer", 256)
    save: bool = switch("keep the result in pi's folder")
    compare: tuple[str, ...] = tail("A B", "instead: compare two saved results")


@verb(
    BenchOptions,
    examples=("pi bench qwen", "pi bench qwen --concurrency 1,8,64 --input 4096 --save", "pi bench --compare A B"),
)
def bench(c: Any, options: BenchOptions) -> None:
    """Measure latency and throughput of a model with vLLM's own benchmark, on its pod."""
    if options.compare:
        return _compare(options)
    if options.name is None:
        raise InputError("name-missing", "which model?", "pi bench NAME; pi list shows the names")
    name, levels = check_name(options.name, "model"), _levels(options.concurrency)
    tokens = _tokens("--input", options.input), _tokens("--output", options.output)
    with where.targeted(c, heads.pod_for(c, options.pod, name)) as (pod, connection):
        model = pod.serving(name)
        if model:
            name = model.name
            apis.require_chat(name, "chat" if model.api == "completions" else model.api)
        measured = []
        for concurrency in levels:
            with screen.progress() as line:
                title = f"  {concurrency} at once: "

                def listen(event: Event, line: screen.Progress = line, title: str = title) -> None:
                    if isinstance(event, Progress):
                        line.show(title + event.text)

                line.show(f"{title}vllm bench starts")
                requests = benchmarks.requests_of(concurrency)
                found = calls.bench(connection, name, concurrency, requests, tokens, listen)
            measured.append(Level(concurrency, found))
    result = Result(name, pod.name, tokens, tuple(measured))
    benchmarks.show(result)
    _plot(result)
    if options.save:
        screen.say(f"saved as {benchmarks.save(result).stem}; compare: pi bench --compare A B")
    if failed := sum(level.found["failed"] for level in measured):
        screen.note(f"warning: {failed} requests failed; see: pi logs {name}{where.flag_for(pod.name)}")


def _plot(result: Result) -> None:
    columns = screen.width()
    if columns and len(result.levels) > 1:
        from pi.steps.bench_plot import plot

        screen.say(plot(result, columns))


def _compare(options: BenchOptions) -> None:
    if len(options.compare) != 2 or options.name:
        raise InputError("bench-compare-two", "--compare takes two saved results", "pi bench --compare A B")
    benchmarks.compare(*map(benchmarks.load, options.compare))


def _levels(text: str) -> list[int]:
    """Return the levels of `--concurrency`. Raises InputError."""
    words = text.split(",")
    are_numbers = all(word.isascii() and word.isdecimal() and 0 < int(word[:9]) <= MOST_AT_ONCE for word in words)
    if not are_numbers or len(words) > MOST_LEVELS:
        hint = f"use at most {MOST_LEVELS} numbers from 1 to {MOST_AT_ONCE}, such as 1,4,16"
        raise InputError("concurrency-invalid", f"invalid --concurrency {text!r}", hint)
    return [int(word) for word in words]


def _tokens(name: str, value: int) -> int:
    if not 0 < value <= MOST_TOKENS:
        raise InputError("tokens-invalid", f"invalid {name} {value}", "use a number of tokens such as 1024")
    return value
