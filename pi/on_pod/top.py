"""`top` on the pod: the figures of each deployment and GPU, again and again over one connection."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

from pi.on_pod import health, key, metrics, records
from pi.on_pod.gpu_watch import GpuWatch
from pi.on_pod.pace import paced
from pi.on_pod.record_shapes import Record
from pi.on_pod.top_shapes import ModelSample, Sample, TopAnswer, TopRequest
from pi.on_pod.wire import PodError, Wire

FASTEST_S = 1.0
"""Time between two samples at least: `/metrics` has thousands of lines, and vLLM writes them for each."""

GPU_PATIENCE_S = 10
"""How long the first of a fixed number of samples waits for nvidia-smi."""

AT_ONCE = 8

MISSING = "prometheus_client is missing in ~/venv on the pod, which vLLM needs too; pi pods setup repairs it"


def top(wire: Wire, request: TopRequest) -> TopAnswer:
    """Send samples until there are enough, pi disconnects or the user interrupts."""
    interval_s, sent = max(FASTEST_S, request["interval_s"]), 0
    parse = metrics.parser()
    cards = GpuWatch(interval_s)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            if request["samples"]:
                cards.wait(GPU_PATIENCE_S)
            while not wire.lost.is_set():
                wire.check_cancelled()
                models = list(pool.map(lambda record: sample(record, parse), _servers()))
                found: Sample = {
                    "at": time.monotonic(),
                    "models": models,
                    "gpus": cards.now(),
                    "keys": [],
                    "problem": None if parse else MISSING,
                }
                try:
                    found["keys"] = key.counted()
                except PodError as error:
                    found["problem"] = found["problem"] or str(error)
                wire.emit({"event": "sample", "sample": found})
                sent += 1
                if sent == request["samples"]:
                    break
                wire.cancelled.wait(paced(interval_s))
        finally:
            cards.end()
    return {"samples": sent}


def _servers() -> list[Record]:
    """Return the deployments that answer requests and have figures: neither endpoints nor ranks behind a head."""
    return [record for record in records.load_all() if not (records.is_endpoint(record) or record.get("rank"))]


def sample(record: Record, parse: Optional[metrics.Parse]) -> ModelSample:
    """Return a deployment's state, with its figures if it runs."""
    state: str = records.described(record)["state"]
    found = None
    if state == "running" and records.hung(record):
        state = "unresponsive"
    if state == "running":
        status, body = health.get(record["port"], "/metrics", records.key(record["name"]))
        if status != 200:
            state = "unresponsive"
        elif parse:
            found = metrics.read(body.decode("utf-8", "replace"), parse)
            found = found and metrics.without(found, *records.probes(record["name"]))
    sampled: ModelSample = {"name": record["name"], "state": state, "metrics": found}
    if "replica_of" in record:
        sampled["replica_of"] = record["replica_of"]
    return sampled
