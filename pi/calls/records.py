"""A pod's record of a deployment, as pods.json keeps it."""

from __future__ import annotations

from collections.abc import Sequence

from pi.on_pod.record_shapes import Record
from pi.pods import apis
from pi.pods.types import NAME, Deployment, Span
from pi.text import one_line
from pi.vllm.venvs import is_extra_venv


def deployment(record: Record) -> Deployment:
    """Return the deployment that a pod's record describes."""
    venv, endpoint = record.get("venv", ""), record.get("replica_of", "")
    return Deployment(
        name=record["name"],
        model=record["model"],
        port=record["port"],
        gpus=tuple(record["gpus"]),
        pid=record.get("pid", 0),
        status=record["status"],
        started=record.get("started", 0),
        boot_id=record.get("boot_id", ""),
        instance=record["instance"],
        memory_share=record.get("memory_share"),
        api=apis.known(record.get("api")),
        private=record.get("private", False),
        adapters=tuple(name for name in record.get("adapters", ()) if NAME.fullmatch(name)),
        venv=venv if is_extra_venv(venv) else "",
        replica_of=endpoint if NAME.fullmatch(endpoint) else "",
        elsewhere=tuple(pod for each in record.get("elsewhere", ()) if NAME.fullmatch(pod := each.partition(" ")[0])),
        span=_span(record),
    )


def _span(record: Record) -> Span | None:
    rank, group = record.get("rank"), record.get("group", "")
    return None if rank is None else span_of(rank, record.get("members", []), record.get("machines", []), group)


MOST_PODS = 64
"""Pods of one model; pi starts one over at most 16."""

LONGEST_ID = 64


def span_of(rank: int, members: Sequence[str], machines: Sequence[str], group: str) -> Span | None:
    """Return the pods of a model as a pod reports them, or None if that cannot be."""
    is_possible = 2 <= len(members) <= MOST_PODS and 0 <= rank < len(members) and all(map(NAME.fullmatch, members))
    if not is_possible:
        return None
    ids = tuple(one_line(each, LONGEST_ID) for each in machines[: len(members)])
    return Span(rank, tuple(members), ids, one_line(group, LONGEST_ID))
