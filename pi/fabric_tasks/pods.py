"""`pi pods`: the machines that pi knows."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.fabric_tasks.flags import Options
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.steps.pod_summary import gpu_summary, versions


@verb(Options, name="list", examples=("pi pods",))
def list_pods(c: Any, options: Options) -> None:
    """List your pods; `*` marks the active one."""
    saved = state.load()
    if not saved.pods:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')
        return
    rows = [("", "POD", "GPUS", "MODELS", "VLLM", "SSH")]
    firsts: dict[str, str] = {}
    for name, pod in saved.pods.items():
        mark = "*" if name == saved.active else ""
        first = firsts.setdefault(pod.boot, name) if pod.boot else name
        cards = gpu_summary(pod) if first == name else f"same machine as {first}"
        rows.append((mark, name, cards, str(len(pod.models) or "-"), versions(pod), pod.ssh))
    screen.columns(rows)
