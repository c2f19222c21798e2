"""A rank ends if it has lost a peer (`pi_link.py`): real connections between pods, the launcher is a small one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pi
from tests.rig.network import Namespace, networks
from tests.rig.patience import patient
from tests.rig.pod import is_alive, session_of, until
from tests.rig.sshd import pids

TEMPLATES = Path(pi.__file__).parent / "setup" / "templates"

SERVER = """
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
own, *peers = sys.argv[1:]
server = socket.create_server((own, 40001), backlog=8)
kept = []
for peer in peers:
    while True:
        try:
            kept.append(socket.create_connection((peer, 40001), timeout=1))
            break
        except OSError:
            time.sleep(0.05)
for peer in peers:
    kept.append(server.accept()[0])
time.sleep(600)
"""
"""A rank that connects with each peer, says nothing, and ignores TERM."""

LAUNCHER = """
python=$1 own=$2 wait=$3; shift 3
"$python" -S server.py "$own" "${@#*=}" & server=$!
echo $server >pid
"$python" -B -E -s -S pi_link.py $server "$own" "$wait" "$@" & link=$!
wait $server
kill $link 2>/dev/null
wait
"""


class Rank:
    """A rank in a namespace, with a run folder of its own."""

    def __init__(self, folder: Path, space: Namespace, pace: float) -> None:
        self.folder, self.space, self._pace = folder, space, pace
        folder.mkdir()
        (folder / "server.py").write_text(SERVER)
        for name in ("pi_link.py", "pi_beside.py"):
            (folder / name).write_text((TEMPLATES / name).read_text())
        self._launcher: subprocess.Popen[bytes] | None = None

    def start(self, *peers: Rank, wait_s: float = 60) -> None:
        words = [self.space.private, str(wait_s)]
        words += [f"pod-{peer.folder.name}={peer.space.private}" for peer in peers]
        with (self.folder / "log").open("wb") as log:
            self._launcher = subprocess.Popen(
                [*self.space.enter, "bash", "-c", LAUNCHER, "sh", sys.executable, *words],
                cwd=self.folder,
                env={**os.environ, "PI_TEST_PACE": str(self._pace)},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def living(self) -> list[int]:
        return [pid for pid in pids() if self._launcher and session_of(pid) == self._launcher.pid and is_alive(pid)]

    def kill_server(self) -> None:
        os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)

    def loss(self) -> dict[str, Any] | None:
        path = self.folder / "link"
        return json.loads(path.read_text()) if path.exists() else None

    def connections(self) -> int:
        """Return how many connections of its server stand, of both directions."""
        return self.space.run("ss", "-Htn", "state", "established", "( sport = 40001 or dport = 40001 )").count("\n")

    def down(self) -> None:
        if self._launcher:
            for pid in self.living():
                os.kill(pid, signal.SIGKILL)
            self._launcher.wait()


@pytest.fixture
def ranks(tmp_path: Path, pace: float) -> Iterator[list[Rank]]:
    """Three ranks, each in a namespace of its own."""
    with networks() as made:
        found = [Rank(tmp_path / name, made.namespace(), pace) for name in "abc"]
        yield found
        for rank in found:
            rank.down()
            rank.space.down()


def begin(*ranks: Rank) -> None:
    for rank in ranks:
        rank.start(*[peer for peer in ranks if peer is not rank])
    assert until(lambda: all(rank.connections() == 2 * (len(ranks) - 1) for rank in ranks))
    time.sleep(1)


def end_of_all(ranks: list[Rank], limit_s: float) -> float:
    """Return after how many seconds all processes of these ranks are gone."""
    began = time.monotonic()
    assert until(lambda: not any(rank.living() for rank in ranks), limit_s), [rank.loss() for rank in ranks]
    return time.monotonic() - began


@pytest.mark.pace(0.2)
def test_a_dead_rank_ends_its_peers(ranks: list[Rank]) -> None:
    begin(*ranks[:2])
    assert all(rank.loss() is None and len(rank.living()) == 3 for rank in ranks[:2])
    ranks[1].kill_server()
    end_of_all(ranks[:2], 15)
    loss = ranks[0].loss()
    assert loss and (loss["pod"], loss["address"], loss["what"]) == ("pod-b", ranks[1].space.private, "gone")
    assert f"pi: pod pod-b ({ranks[1].space.private}) closed its connections" in (ranks[0].folder / "log").read_text()


@pytest.mark.slow
@pytest.mark.pace(0.2)
def test_a_peer_that_never_connects_ends_the_rank(ranks: list[Rank]) -> None:
    ranks[0].start(ranks[1], wait_s=5)
    end_of_all(ranks[:1], 15)
    loss = ranks[0].loss()
    assert loss and loss["what"] == "late" and loss["text"].endswith("did not connect within 5 s")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lose", "limit_s", "what"),
    [
        (lambda rank: rank.kill_server(), 15, "gone"),
        (lambda rank: rank.space.cut_off(), 30, "silent"),
        (lambda rank: rank.space.run("ip", "link", "set", "eth1", "down"), 30, "silent"),
    ],
    ids=["killed", "cut off", "without its interface"],
)
def test_all_pods_end_in_time_if_one_is(
    ranks: list[Rank], lose: Callable[[Rank], object], limit_s: float, what: str
) -> None:
    begin(*ranks)
    time.sleep(8)
    assert all(rank.loss() is None for rank in ranks)
    lose(ranks[2])
    taken = end_of_all(ranks, patient(limit_s))
    assert taken < patient(limit_s)
    losses = [rank.loss() for rank in ranks[:2]]
    assert all(loss and (loss["pod"], loss["what"]) == ("pod-c", what) for loss in losses), losses
    print(f"{what}: {taken:.1f} s")
