"""`pi cache`: the models on a pod's disk, and what vLLM compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls.cache import read_cache
from pi.fabric_tasks.options import PodsOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.steps import cache_table, group, where


@dataclass(frozen=True)
class CacheOptions(PodsOptions):
    json: bool = json_switch()


@verb(CacheOptions, name="list", examples=("pi cache", "pi cache -p dc1 --json", "pi cache --all-pods"))
def list_cache(c: Any, options: CacheOptions) -> None:
    """List the models on the pod's disk and compiled code: size, last use, who uses them, and the free space."""
    asked = group.ask(c, where.several(c, options.pod, options.all_pods), lambda _, connection: read_cache(connection))
    if len(asked) == 1:
        group.raise_failed(asked)
    if options.json:
        screen.say_json(group.one_or_all(asked, "cache", lambda pod, found: cache_table.as_json(pod.name, found)))
    else:
        cache_table.show(asked)
    group.raise_failed(asked)
