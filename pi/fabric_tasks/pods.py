"""`pi pods`: the machines that pi knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.fabric_tasks.flags import Options, flag, switch
from pi.fabric_tasks.options import json_switch
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.pods.types import Pod, State
from pi.steps import spending
from pi.steps.pod_summary import as_json, gpu_summary, versions

if TYPE_CHECKING:
    from pi.steps.pods_now import Now


@dataclass(frozen=True)
class ListPodsOptions(Options):
    pod: str | None = flag("P[,P]", "only these pods, and ask them what is true now", short="-p", completes="pod")
    all_pods: bool = switch("ask every pod, all at the same time", excludes="--pod")
    json: bool = json_switch()


@verb(ListPodsOptions, name="list", examples=("pi pods", "pi pods --all-pods", "pi pods --json"))
def list_pods(c: Any, options: ListPodsOptions) -> None:
    """List your pods; `*` marks the active one."""
    saved = state.load()
    if not (options.pod or options.all_pods):
        return _show(saved, list(saved.pods.values()), None, options.json)
    from pi.steps import pods_now  # noqa: PLC0415 - imports what reads answers

    now, asked = pods_now.ask(c, options.pod, options.all_pods)
    saved = state.load()
    _show(saved, [pod for name, pod in saved.pods.items() if name in now], now, options.json)
    pods_now.raise_failed(asked)


def _show(saved: State, pods: list[Pod], now: dict[str, Now] | None, json: bool) -> None:
    firsts, prices = _first_names(saved), spending.prices({pod.name: pod for pod in pods})
    if json:
        screen.say_json(
            {
                "pods": [
                    as_json(
                        pod,
                        pod.name == saved.active,
                        firsts[pod.name],
                        prices[pod.name],
                        now[pod.name] if now else None,
                    )
                    for pod in pods
                ]
            }
        )
        return
    if not pods:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')
        return
    is_priced = any(price is not None for price in prices.values())
    priced = ("HOURS", "COST") if is_priced else ()
    rows = [("", "POD", "GPUS", "MODELS", "VLLM", *priced, "SSH")]
    for pod in pods:
        mark = "*" if pod.name == saved.active else ""
        first = firsts[pod.name]
        cards = gpu_summary(pod) if first == pod.name else f"same machine as {first}"
        spent = spending.since_setup(pod, prices[pod.name]) if first == pod.name else ("-", "-")
        models = str(len(pod.models) or "-")
        rows.append((mark, pod.name, cards, models, versions(pod), *(spent if is_priced else ()), pod.ssh))
    screen.columns(rows, label=1)
    for name, seen in now.items() if now else ():
        screen.say(f"  {name}: {seen.sentence()}")


def _first_names(saved: State) -> dict[str, str]:
    """Return for each pod the first name of its machine."""
    firsts: dict[str, str] = {}
    return {name: firsts.setdefault(pod.boot, name) if pod.boot else name for name, pod in saved.pods.items()}
