"""A pod's record of a deployment, as pods.json keeps it."""

from __future__ import annotations

from typing import Any

from pi.planning import venvs
from pi.pods.types import Deployment


def deployment(record: dict[str, Any]) -> Deployment:
    """A pod's record of a deployment as pods.json keeps it."""
    return Deployment(
        name=str(record["name"]),
        model=str(record["model"]),
        port=int(record["port"]),
        gpus=tuple(int(gpu) for gpu in record["gpus"]),
        pid=int(record.get("pid", 0)),
        status=str(record["status"]),
        started=int(record.get("started", 0)),
        boot_id=str(record.get("boot_id", "")),
        instance=str(record["instance"]),
        memory_share=record.get("memory_share"),
        extra=_extra(record),
    )


def _extra(record: dict[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {"api": "responses"} if record.get("api") == "responses" else {}
    if record.get("private"):
        extra["private"] = True
    if venvs.is_extra_venv(record.get("venv")):
        extra["venv"] = record["venv"]
    return extra
