"""Which deployments compute on the pod's GPUs."""

from __future__ import annotations

from typing import List

from pi.on_pod import gpus, records
from pi.on_pod.record_shapes import Record
from pi.on_pod.shapes import NamedGpuUse


def named(recorded: List[Record]) -> List[NamedGpuUse]:
    """Return the processes that compute on the GPUs, with the name of their deployment or None."""
    uses = gpus.processes()
    names = {pid: record["name"] for record in recorded for pid in records.living(record)} if uses else {}
    return [{**use, "name": names.get(use["pid"])} for use in uses]
