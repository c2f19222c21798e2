"""Requests to 1, 2 and 4 replicas behind one address, and what HAProxy adds to one request.

The replicas are stand-ins: each answers four requests at a time, 0.12 s each, so 33 in a second at most.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tests.rig.command import KEY, Pi
from tests.rig.pod import Pod, make_venv

COUNTS = (1, 2, 4)

REQUESTS, AT_ONCE, SESSIONS = 800, 32, 200

PAIRS = 200

ROOM = {"say": ["a", "b", "c", "d"], "pause_s": 0.02, "at_once": 4}


def report(folder: Path) -> None:
    """Print the figures; HAProxy must be on this machine."""
    folder.mkdir()
    pi, pod = Pi(folder), Pod(folder / "box", "box").furnish(make_venv(folder / "venv"))
    pod.up()
    try:
        pi.knows(pod)
        pod.fault("vllm", **ROOM)
        pi.ok("start", pod.model(), "--name", "m", "--replicas", "1", timeout_s=300)
        port, one_per_s = pi.models("box")["m"]["port"], 0.0
        adds(pod, port)
        for count in COUNTS:
            pi.ok("scale", "m", str(count), timeout_s=300)
            one_per_s = loaded(count, port, one_per_s)
    finally:
        pi("stop", "-y")
        pod.down()


def ask(port: int, number: int, path: str = "/v1/chat/completions") -> float:
    """Send a request, as one of 200 conversations. Returns its seconds. Raises RuntimeError for a broken answer."""
    began = time.perf_counter()
    body = json.dumps({"model": "m", "stream": True, "messages": []}) if path.startswith("/v1/chat") else None
    headers = {"Authorization": f"Bearer {KEY}", "X-Session-ID": str(number % SESSIONS)}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST" if body else "GET", path, body, headers)
        reply = connection.getresponse()
        text = reply.read()
    if reply.status != 200 or (body and b"[DONE]" not in text):
        raise RuntimeError(f"status {reply.status}, {text[-100:]!r}")
    return time.perf_counter() - began


def adds(pod: Pod, port: int) -> None:
    """Print what HAProxy adds to a request that a replica answers at once, from pairs."""
    direct, pid = pod.record("m.1")["port"], pod.record("m")["pid"]
    before, pairs = cpu_s(pid), []
    for number in range(PAIRS):
        pairs.append((ask(port, number, "/v1/models"), ask(direct, number, "/v1/models")))
    through, straight = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
    added = statistics.median(a - b for a, b in pairs) * 1000
    cpu_ms = (cpu_s(pid) - before) / PAIRS * 1000
    print(f"a request through HAProxy: {through:.2f} ms, to its replica: {straight:.2f} ms, added {added:+.2f} ms,")
    print(f"  {cpu_ms:.2f} ms of HAProxy's CPU")


def loaded(count: int, port: int, one_per_s: float) -> float:
    """Print how many requests in a second get an answer. Returns that."""
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        took = sorted(pool.map(lambda number: ask(port, number), range(REQUESTS)))
    per_s = REQUESTS / (time.perf_counter() - began)
    middle, late = took[len(took) // 2], took[len(took) * 95 // 100]
    times = f", {per_s / one_per_s:.2f} times one" if one_per_s else ""
    print(f"{count} stand-ins, {AT_ONCE} requests at once: {per_s:.0f} in a second{times},", end=" ")
    print(f"median {middle:.2f} s, 95 % {late:.2f} s")
    return one_per_s or per_s


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
