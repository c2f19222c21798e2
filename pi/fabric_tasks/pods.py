"""`pi pods`: the machines that pi knows."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.steps.pod_summary import gpu_summary, versions


@verb(name="list")
def list_pods(c: Any) -> None:
    """List the pods; `*` marks the active one."""
    known = state.load()
    if not known.pods:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')
        return
    rows = [("", "POD", "GPUS", "MODELS", "VLLM", "SSH")]
    firsts: dict[str, str] = {}
    for name, pod in known.pods.items():
        mark = "*" if name == known.active else ""
        first = firsts.setdefault(pod.boot, name) if pod.boot else name
        cards = gpu_summary(pod) if first == name else f"same machine as {first}"
        rows.append((mark, name, cards, str(len(pod.models) or "-"), versions(pod), pod.ssh))
    screen.columns(rows)
