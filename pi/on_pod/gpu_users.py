"""Which deployments compute on the pod's GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional

from pi.on_pod import process, records

if TYPE_CHECKING:
    from pi.on_pod.record_shapes import Record
    from pi.on_pod.shapes import GpuUse, NamedGpuUse


def named(
    uses: List[GpuUse], recorded: List[Record], among: Optional[List[process.Living]] = None
) -> List[NamedGpuUse]:
    """Return processes that compute on the GPUs, with the name of their deployment or None.

    `among` is an earlier look at all processes.
    """
    names = {pid: record["name"] for record in recorded for pid in records.living(record, among)} if uses else {}
    return [{**use, "name": names.get(use["pid"])} for use in uses]
