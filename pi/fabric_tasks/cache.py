"""`pi cache`: the models on a pod's disk, and what vLLM compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls.cache import read_cache
from pi.fabric_tasks.options import PodOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.steps import cache_table, where


@dataclass(frozen=True)
class CacheOptions(PodOptions):
    json: bool = json_switch()


@verb(CacheOptions, name="list", examples=("pi cache", "pi cache -p dc1 --json"))
def list_cache(c: Any, options: CacheOptions) -> None:
    """List the models on the pod's disk and compiled code: size, last use, who uses them, and the free space."""
    with where.targeted(c, options.pod) as (pod, connection):
        found = read_cache(connection)
    if options.json:
        screen.say_json(cache_table.as_json(pod.name, found))
    else:
        cache_table.show(pod.name, found)
