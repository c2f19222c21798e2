"""`pi pods`: the machines that pi knows."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.fabric_tasks.flags import Options
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.steps import spending
from pi.steps.pod_summary import gpu_summary, versions


@verb(Options, name="list")
def list_pods(c: Any, options: Options) -> None:
    """List your pods; `*` marks the active one."""
    saved = state.load()
    if not saved.pods:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')
        return
    prices = spending.prices(saved.pods)
    is_priced = any(price is not None for price in prices.values())
    rows = [("", "POD", "GPUS", "MODELS", "VLLM", *(("HOURS", "COST") if is_priced else ()), "SSH")]
    firsts: dict[str, str] = {}
    for name, pod in saved.pods.items():
        mark = "*" if name == saved.active else ""
        first = firsts.setdefault(pod.boot, name) if pod.boot else name
        cards = gpu_summary(pod) if first == name else f"same machine as {first}"
        spent = spending.since_setup(pod, prices[name]) if first == name else ("-", "-")
        models = str(len(pod.models) or "-")
        rows.append((mark, name, cards, models, versions(pod), *(spent if is_priced else ()), pod.ssh))
    screen.columns(rows)
