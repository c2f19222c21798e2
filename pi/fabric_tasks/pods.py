"""`pi pods`: the machines that pi knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.fabric_tasks.flags import Options
from pi.fabric_tasks.options import json_switch
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.pods.types import State
from pi.steps import spending
from pi.steps.pod_summary import as_json, gpu_summary, versions


@dataclass(frozen=True)
class PodsOptions(Options):
    json: bool = json_switch()


@verb(PodsOptions, name="list", examples=("pi pods", "pi pods --json"))
def list_pods(c: Any, options: PodsOptions) -> None:
    """List your pods; `*` marks the active one."""
    saved = state.load()
    firsts = _first_names(saved)
    if options.json:
        screen.say_json(
            {"pods": [as_json(pod, name == saved.active, firsts[name]) for name, pod in saved.pods.items()]}
        )
        return
    if not saved.pods:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')
        return
    prices = spending.prices(saved.pods)
    is_priced = any(price is not None for price in prices.values())
    rows = [("", "POD", "GPUS", "MODELS", "VLLM", *(("HOURS", "COST") if is_priced else ()), "SSH")]
    for name, pod in saved.pods.items():
        mark = "*" if name == saved.active else ""
        first = firsts[name]
        cards = gpu_summary(pod) if first == name else f"same machine as {first}"
        spent = spending.since_setup(pod, prices[name]) if first == name else ("-", "-")
        models = str(len(pod.models) or "-")
        rows.append((mark, name, cards, models, versions(pod), *(spent if is_priced else ()), pod.ssh))
    screen.columns(rows, label=1)


def _first_names(saved: State) -> dict[str, str]:
    """Return for each pod the first name of its machine."""
    firsts: dict[str, str] = {}
    return {name: firsts.setdefault(pod.boot, name) if pod.boot else name for name, pod in saved.pods.items()}
