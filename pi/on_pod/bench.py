"""`bench` on the pod: vLLM's own `vllm bench serve` against a running deployment."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from typing import Any, Dict, List

from pi.on_pod import logs, process, reading, records, venvs
from pi.on_pod.bench_shapes import BenchAnswer, BenchRequest, Spread
from pi.on_pod.record_shapes import Record
from pi.on_pod.wire import PodError, Wire

POLL_S = 0.5

LOG_TAIL_BYTES = 16 * 1024

END_PATIENCE_S = 3

PERCENTILES = ("p50", "p95", "p99")

_DONE = re.compile(r"(\d+)/(\d+) \[")
"""tqdm's count of finished requests."""


def bench(wire: Wire, request: BenchRequest) -> BenchAnswer:
    """Measure one level of concurrency. Raises PodError if the model does not run or the program fails."""
    record = records.load(request["name"])
    if record is None or records.described(record)["state"] != "running":
        raise PodError("not_running", "%s does not run on the pod" % request["name"])
    venv = os.path.join(os.path.expanduser("~"), record.get("venv") or "venv")
    folder = tempfile.mkdtemp(prefix="bench-", dir=records.HOME)
    try:
        _run(wire, words(record, request, venv, folder), record, folder)
        return _read(folder, record, venv)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def words(record: Record, request: BenchRequest, venv: str, folder: str) -> List[str]:
    """Return the command. Each level has its own seed, so that none finds its prompts in the prefix cache."""
    model = os.path.expanduser(record["model"])
    options = {
        "--backend": "openai",
        "--endpoint": "/v1/completions",
        "--host": "127.0.0.1",
        "--port": record["port"],
        "--model": model,
        "--tokenizer": model,
        "--served-model-name": record["name"],
        "--dataset-name": "random",
        "--random-input-len": request["input"],
        "--random-output-len": request["output"],
        "--num-prompts": request["requests"],
        "--max-concurrency": request["concurrency"],
        "--seed": request["concurrency"],
        "--percentile-metrics": "ttft,tpot,itl",
        "--metric-percentiles": "50,95,99",
        "--result-dir": folder,
        "--result-filename": "result.json",
    }
    given = [str(word) for pair in options.items() for word in pair]
    return [os.path.join(venv, "bin", "vllm"), "bench", "serve", *given, "--save-result"]


def _run(wire: Wire, command: List[str], record: Record, folder: str) -> None:
    """Run the program with the deployment's key in its environment, and report how far it is."""
    instance, log = "bench-" + secrets.token_hex(8), os.path.join(folder, "log")
    setting = '. ~/.pi/env.sh && unset PI_API_KEY HF_TOKEN HUGGING_FACE_HUB_TOKEN && exec "$@"'
    key = records.key(record["name"])
    wire.hide([key])
    with open(log, "wb") as output:
        child = subprocess.Popen(
            ["bash", "-c", setting, "pi-bench", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            env=dict(os.environ, OPENAI_API_KEY=key, HF_HUB_OFFLINE="1", PI_INSTANCE=instance),
        )
    try:
        while True:
            try:
                child.wait(POLL_S)
                break
            except subprocess.TimeoutExpired:
                wire.check_cancelled()
                if wire.lost.is_set():
                    raise PodError("lost", "pi disconnected") from None
                found = _DONE.findall(logs.tail_of(log, 4096))
                wire.progress("%s of %s requests" % found[-1] if found else "vllm bench starts")
    finally:
        if child.poll() is None:
            process.end(wire.progress, child.pid, lambda: process.members(child.pid, instance), END_PATIENCE_S)
    if child.returncode:
        raise PodError("bench_failed", "vllm bench serve failed", log=logs.tail_of(log, LOG_TAIL_BYTES))


def _read(folder: str, record: Record, venv: str) -> BenchAnswer:
    """Return the figures of its result file (keys of vLLM 0.33.0, `vllm/benchmarks/serve.py`)."""
    log = logs.tail_of(os.path.join(folder, "log"), LOG_TAIL_BYTES)
    try:
        found: Any = json.loads(reading.text(os.path.join(folder, "result.json")))
        if not found["completed"]:
            raise PodError("bench_failed", "no request of vllm bench serve succeeded", log=log)
        return {
            "model": record["model"],
            "vllm_version": venvs.vllm_version(venv) or "",
            "completed": found["completed"],
            "failed": found.get("failed", 0),
            "duration": found["duration"],
            "requests_per_s": found["request_throughput"],
            "output_tokens_per_s": found["output_throughput"],
            "total_tokens_per_s": found["total_token_throughput"],
            "ttft": _spread(found, "ttft"),
            "tpot": _spread(found, "tpot"),
            "itl": _spread(found, "itl"),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise PodError("bench_failed", "vllm bench serve wrote no result (%s)" % error, log=log) from None


def _spread(found: Dict[str, Any], metric: str) -> Spread:
    p50, p95, p99 = (found["%s_%s_ms" % (percentile, metric)] for percentile in PERCENTILES)
    return {"p50": p50, "p95": p95, "p99": p99}
