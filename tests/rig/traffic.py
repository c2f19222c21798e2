"""Requests to a model with replicas while one is killed and another one leaves, and what may be lost then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests

AT_ONCE = 16

SESSIONS = 48


@dataclass(frozen=True)
class Asked:
    """A request: its session, the replica that answered, when it began and ended, and whether its answer is whole."""

    session: int
    replica: str
    began: float
    ended: float
    is_whole: bool


def ask(url: str, key: str, name: str, session: int, number: int) -> Asked:
    """Stream a short answer."""
    began, replica, is_whole = time.monotonic(), "", False
    body = {
        "model": name,
        "stream": True,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": f"Session {session}, request {number}. Say one word."}],
    }
    headers = {"Authorization": f"Bearer {key}", "X-Session-ID": f"session-{session}"}
    try:
        with requests.post(
            f"{url}/v1/chat/completions", json=body, headers=headers, stream=True, timeout=300
        ) as answer:
            replica = answer.headers.get("x-replica", "")
            is_whole = answer.status_code == 200 and b"data: [DONE]" in b"".join(answer.iter_content(None))
    except requests.RequestException:
        pass
    return Asked(session, replica, began, time.monotonic(), is_whole)


def run(url: str, key: str, name: str, count: int, kill: Callable[[], None], drain: Callable[[], None]) -> list[Asked]:
    """Send so many requests, 16 at a time; call `kill` after a quarter of them, and `drain` after half."""
    done: list[Asked] = []

    def work(number: int) -> None:
        done.append(ask(url, key, name, number % SESSIONS, number))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = [pool.submit(work, number) for number in range(count)]
        for share, act in ((count // 4, kill), (count // 2, drain)):
            while len(done) < share:
                time.sleep(0.005)
            act()
        for future in sent:
            future.result()
    return done


def check(done: list[Asked], moments: list[float], name: str) -> None:
    """Check what the requests show: replica 2 was killed, 3 was drained, and 1 stays.

    The moments are those before the kill, when the port was closed, and when HAProxy had noticed it. Requests that
    began between the last two reached no server, so another replica answered them.
    """
    before, closed, down = moments
    lost = [each for each in done if not each.is_whole]
    saved = sum(closed < each.began <= down for each in done)
    print(
        f"{len(done)} requests, {len(lost)} lost; {name}.2 was out after {down - closed:.2f} s, {saved} came until then"
    )
    homes = {each.session: each.replica for each in done if each.is_whole and each.ended < before}
    assert set(homes.values()) == {f"{name}.{number}" for number in (1, 2, 3)}
    moved = [each for each in done if each.is_whole and each.ended < before and each.replica != homes[each.session]]
    assert not moved
    assert len(lost) <= AT_ONCE
    for each in lost:
        assert each.began <= closed and before <= each.ended and homes.get(each.session) in (None, f"{name}.2"), each
    stays = Counter(each.replica == f"{name}.1" for each in done if homes.get(each.session) == f"{name}.1")
    assert stays[True] >= 0.95 * stays.total()


def wait_for(log: Path, words: str, patience_s: float = 30) -> None:
    deadline = time.monotonic() + patience_s
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
