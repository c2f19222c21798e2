"""`list` on the pod: what each deployment is doing, all of them asked at the same time."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pi.on_pod import gpus, health, logs, process, records, storage, survey
from pi.on_pod.wire import Wire

LOG_TAIL_BYTES = 64 * 1024


def status(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    """The pod's facts and, for each deployment it has a record of, its state and (not running) log tail.

    `storage` says what keeps models from being reached, if anything does.
    """
    found = records.load_all()
    with ThreadPoolExecutor(max_workers=1 + min(16, len(found))) as pool:
        trouble = pool.submit(storage.trouble)
        deployments = list(pool.map(_described, found))
    return {
        "deployments": deployments,
        "storage": trouble.result(),
        "boot_id": process.boot_id(),
        "boot": process.boot(),
        "up_s": process.up_s(),
        "gpus": gpus.nvidia_smi(request["gpu_query"]),
        "vllm_version": survey.vllm_version(),
        "beside": survey.versions_beside(),
        "public": survey.public_addresses(),
    }


def _described(record: dict[str, Any]) -> dict[str, Any]:
    now = survey.described(record)
    if now["state"] == "starting" and not records.is_starting(record) and health.is_up(record["port"]):
        now.update(_taken_over(record))
    if now["state"] == "running":
        now["strangers"] = process.strangers(record["port"], records.living(record))
        if not health.is_up(record["port"]):
            now["state"] = "unresponsive"
    if now["state"] not in ("running", "starting"):
        now["log"] = logs.tail(record["name"], LOG_TAIL_BYTES)
        now["left"] = records.living(record)
        now["held_mib"] = gpus.held_mib(now["left"]) if now["left"] and record["gpus"] else {}
    return now


def _taken_over(record: dict[str, Any]) -> dict[str, Any]:
    """What is new of a deployment that became ready though the call which waited for it was killed."""
    objection = health.objection(record, records.key(record["name"]))
    if objection:
        return {"state": "unresponsive", "objection": objection}
    with contextlib.suppress(OSError):
        records.save(dict(record, status="running"))
    return {"state": "running", "status": "running"}
