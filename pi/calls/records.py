"""A pod's record of a deployment, as pods.json keeps it."""

from __future__ import annotations

from pi.on_pod.record_shapes import Record
from pi.pods import apis
from pi.pods.types import NAME, Deployment, Span
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
        elsewhere=tuple(each.split()[0] for each in record.get("elsewhere", ())),
        span=_span(record),
    )


def _span(record: Record) -> Span | None:
    rank, members = record.get("rank"), tuple(record.get("members", ()))
    if rank is None or len(members) < 2 or rank >= len(members) or not all(map(NAME.fullmatch, members)):
        return None
    return Span(rank, members, tuple(record.get("machines", ())), record.get("group", ""))
