"""`pi top`: the load of models and GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls import top as calls
from pi.errors import InputError, Interrupted
from pi.fabric_tasks.flags import flag, switch
from pi.fabric_tasks.options import PodsOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.pods.types import Pod
from pi.steps import group, scraping, top_live, where
from pi.steps import top as shown
from pi.steps.top import History

FASTEST_S, SLOWEST_S = 1, 60


@dataclass(frozen=True)
class TopOptions(PodsOptions):
    once: bool = switch("two samples, a second apart, instead of a screen")
    json: bool = json_switch(requires="--once")
    every: int = flag("SECONDS", "time between samples", 1, excludes="--once")
    prometheus: bool = switch("print a scrape configuration for Prometheus", excludes="--once")


@verb(TopOptions, examples=("pi top", "pi top --all-pods", "pi top --once --json"))
def top(c: Any, options: TopOptions) -> None:
    """Show the load of models and GPUs, as vLLM and the driver report it, until Ctrl+C."""
    if not FASTEST_S <= options.every <= SLOWEST_S:
        hint = f"use {FASTEST_S} to {SLOWEST_S} seconds"
        raise InputError("every-invalid", f"invalid --every {options.every}", hint)
    chosen = where.several(c, options.pod, options.all_pods)
    if options.prometheus:
        screen.say(scraping.configuration(c, chosen))
    elif options.once:
        _once(c, chosen, as_json=options.json)
    elif not screen.width():
        raise InputError("no-terminal", "pi top draws on a terminal, and stdout is not one", "use: pi top --once")
    else:
        _live(c, chosen, options.every)


def _once(c: Any, chosen: where.Chosen, *, as_json: bool) -> None:
    def sampled(_: Pod, connection: Any) -> History:
        history = History()
        calls.sample(connection, history.add, 2)
        return history

    asked = group.ask(c, chosen, sampled)
    if as_json:
        screen.say_json(
            {
                "pods": [
                    shown.as_json(each.pod.name, each.answer or History()) | {"error": group.error_json(each.error)}
                    for each in asked
                ]
            }
        )
    else:
        for each in asked:
            if each.answer:
                if len(asked) > 1:
                    screen.say(f"{each.pod.name}:")
                shown.show(each.pod.name, each.answer)
    group.raise_failed(asked)


def _live(c: Any, chosen: where.Chosen, every: int) -> None:
    from pi.steps.top_screen import TopScreen

    try:
        with TopScreen() as drawn:
            top_live.watch(c, chosen, every, drawn.draw)
    except (KeyboardInterrupt, Interrupted):
        return
