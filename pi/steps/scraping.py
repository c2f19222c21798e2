"""A scrape configuration for Prometheus: vLLM's own metrics of the models that this machine reaches."""

from __future__ import annotations

import json
from typing import Any

from pi import screen
from pi.calls.status import read_status
from pi.pods.types import Pod
from pi.steps import endpoints, group, keys, states, where


def configuration(c: Any, chosen: where.Chosen) -> str:
    """Return the configuration, in YAML. Prints which models need a tunnel first."""

    def running(pod: Pod, connection: Any) -> list[states.Listed]:
        return [
            found
            for found in states.listed(pod, read_status(connection), connection.host)
            if found.state == "running" and not found.servers
        ]

    asked = group.ask(c, chosen, running)
    lines = [
        "scrape_configs:",
        "  - job_name: pi",
        "    metrics_path: /metrics",
        "    authorization:",
        f"      credentials_file: {json.dumps(str(keys.key_file()))}",
        "    static_configs:",
    ]
    for each in asked:
        for found in each.answer or ():
            url = endpoints.reached(each.pod, found)
            if url is None:
                name = found.model.name
                command = f"pi tunnel {name}{where.flag_for(each.pod.name)} --background"
                screen.note(f"note: {name} on {each.pod.name} needs a tunnel: {command}")
                continue
            labels = json.dumps({"pod": each.pod.name, "model": found.model.name})
            lines += [f"      - targets: [{json.dumps(_target(url))}]", f"        labels: {labels}"]
    if not keys.key_file().exists():
        screen.note(f"note: Prometheus reads the key from a file; write it: pi key show >{keys.key_file()}")
    group.raise_failed(asked)
    return "\n".join(lines)


def _target(url: str) -> str:
    """Return host and port of a base URL. Prometheus adds the scheme, http."""
    return url.partition("://")[2].removesuffix("/v1")
