"""End a server that nobody has used for a while: `pi_idle.py PID PORT SECONDS`, run by its launcher.

Use is a request that the guard admitted (the file of `PI_ASKED`), and a request that runs or waits (`/metrics`). If
/metrics does not tell, the server stays, unless it hangs (the file `hung` of pi_watch.py). The key is in
`VLLM_API_KEY`. It ends with its server.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pi_beside import HERE, started_of  # type: ignore[import-not-found]

LOOK_S = 10.0

SLACK_S = 60
"""The guard notes a request at most once a minute (`pi_guard.NOTED_EVERY_S`)."""

REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
"""Gauges of vLLM, one pair for each engine (vllm/v1/metrics/loggers.py, 0.32 and 0.33)."""


def requests_in(metrics: str) -> float | None:
    """Return how many requests run or wait, or None if the metrics do not tell."""
    counts = REQUESTS.findall(metrics)
    return sum(map(float, counts)) if len(counts) >= 2 else None


class Idle:
    """Decides whether a server has been idle for `limit_s`.

    `asked_at` is when the guard last admitted a request (seconds since 1970, None: never). The clock of the decision
    is another one, that nobody sets: a change of the file means use now.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._used = clock()
        self._asked_at: float | None = None

    def is_due(self, asked_at: float | None, count: Callable[[], float | None]) -> bool:
        """Return whether it is time to stop. `count` is called only if no request came for the whole time."""
        if asked_at != self._asked_at:
            self._asked_at, self._used = asked_at, self._clock()
        if self._clock() - self._used < self._limit_s:
            return False
        requests = count()
        if requests == 0:
            return True
        if requests:
            self._used = self._clock()
        return False


def fetched(port: int, path: str) -> str | None:
    """Return what the server answers to its own key, or None if it does not answer."""
    headers = {"Authorization": "Bearer " + os.environ.get("VLLM_API_KEY", "")}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as reply:
            return str(reply.read(8 << 20).decode("utf-8", "replace"))
    except OSError:
        return None


def asked_at() -> float | None:
    try:
        return Path(os.environ["PI_ASKED"]).stat().st_mtime
    except OSError:
        return None


def main() -> None:
    pid, port, limit_s = (int(word) for word in sys.argv[1:4])
    pace = float(os.environ.get("PI_TEST_PACE") or 1)
    started = started_of(pid)

    def wait() -> None:
        """Wait for the next look. Exits if the server has ended without its launcher."""
        time.sleep(LOOK_S * pace)
        if started is None or started_of(pid) != started:
            sys.exit()

    while fetched(port, "/health") is None:
        wait()
    idle = Idle((limit_s + SLACK_S) * pace)

    def count() -> float | None:
        if HERE.joinpath("hung").exists():  # its figures stand still
            return 0
        with HERE.joinpath("probing").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a probe of pi_watch.py is not a request
            return requests_in(fetched(port, "/metrics") or "")

    while not idle.is_due(asked_at(), count):
        wait()
    HERE.joinpath("idle").write_text(f"{limit_s}\n", encoding="utf-8")
    print(f"pi: no request for {limit_s // 60} min; ending the server", flush=True)
    os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
