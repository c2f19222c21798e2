"""Pods with addresses of their own: a network namespace each, on an outer and on a private network.

SSH comes over the outer network, where the pytest process has an address too, as a laptop has. The private one connects
pods alone. Both are bridges in the pytest process's own namespace. Only root can make them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.rig import machine
from tests.rig.pod import Pod, is_alive, read, until
from tests.rig.skips import skip
from tests.rig.sshd import pids

OUTER, PRIVATE = "198.18", "10.77"
"""The first half of both networks. The first is for benchmarks (RFC 2544), which no real network routes."""

SCAN = """
import json, resource, select, socket, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
found, silent = [], 0
ports = [int(word) for word in sys.argv[2:]] or range(1, 65536)
for first in range(0, len(ports), 16384):
    waiting, poll = {}, select.poll()
    for port in ports[first : first + 16384]:
        asking = socket.socket()
        asking.setblocking(False)
        asking.connect_ex((sys.argv[1], port))
        waiting[asking.fileno()] = asking, port
        poll.register(asking, select.POLLOUT)
    while waiting and (ready := poll.poll(700)):
        for number, _ in ready:
            asking, port = waiting.pop(number)
            if not asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                found.append(port)
            poll.unregister(number)
            asking.close()
    silent += len(waiting)
    for asking, _ in waiting.values():
        asking.close()
print(json.dumps({"open": sorted(found), "silent": silent}))
"""
"""Tries ports, many at a time. A port is silent if nothing answers on it within 0.7 s."""


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Networks:
    """The two networks. `number` makes their names and addresses unique on this machine."""

    def __init__(self) -> None:
        self.number = 20 + os.getpid() % 200
        self.outer, self.private = f"pio{self.number}", f"pip{self.number}"
        self._hosts = itertools.count(11)
        for bridge in (self.outer, self.private):
            run("ip", "link", "add", bridge, "type", "bridge")
            run("ip", "link", "set", bridge, "up")
        run("ip", "address", "add", f"{OUTER}.{self.number}.1/24", "dev", self.outer)

    def namespace(self) -> Namespace:
        return Namespace(self, next(self._hosts))

    def down(self) -> None:
        for bridge in (self.outer, self.private):
            subprocess.run(["ip", "link", "delete", bridge], capture_output=True)


class Namespace:
    """A machine on both networks: its `outer` and its `private` address, at eth0 and eth1."""

    def __init__(self, networks: Networks, host: int) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        here = os.readlink("/proc/self/ns/net")
        assert until(lambda: os.readlink(f"/proc/{self._holder.pid}/ns/net") != here)
        self.enter = ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net")
        self.outer, self.private = (f"{net}.{networks.number}.{host}" for net in (OUTER, PRIVATE))
        self._private_network = networks.private
        self._links = [f"{bridge}-{host}" for bridge in (networks.outer, networks.private)]
        self.run("ip", "link", "set", "lo", "up")
        for index, (bridge, address) in enumerate(((networks.outer, self.outer), (networks.private, self.private))):
            link, own = self._links[index], f"eth{index}"
            run("ip", "link", "add", link, "type", "veth", "peer", "name", own, "netns", str(self._holder.pid))
            run("ip", "link", "set", link, "master", bridge, "up")
            self.run("ip", "address", "add", f"{address}/24", "dev", own)
            self.run("ip", "link", "set", own, "up")
        self.run("ip", "route", "add", "default", "via", f"{OUTER}.{networks.number}.1")

    def run(self, *words: str) -> str:
        """Run a command there. Returns what it printed."""
        return run(*self.enter, *words)

    def cut_off(self) -> None:
        """Drop all its packets on the private network, silently: both ends of the link stay up."""
        run("ip", "link", "set", self._links[1], "nomaster")

    def connect_again(self) -> None:
        run("ip", "link", "set", self._links[1], "master", self._private_network)

    def slow_down(self, rate: str) -> None:
        """Limit its private link in both directions, to a rate of tc(8) such as "200mbit"."""
        words = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "50ms")
        run("tc", "qdisc", "add", "dev", self._links[1], *words)
        self.run("tc", "qdisc", "add", "dev", "eth1", *words)

    def at_full_speed(self) -> None:
        run("tc", "qdisc", "delete", "dev", self._links[1], "root")
        self.run("tc", "qdisc", "delete", "dev", "eth1", "root")

    def scan(self, address: str, *ports: int) -> tuple[list[int], int]:
        """Try these TCP ports of an address from here, or all. Returns the open ones, and how many did not answer."""
        found = json.loads(self.run(sys.executable, "-S", "-c", SCAN, address, *map(str, ports)))
        return found["open"], found["silent"]

    def down(self) -> None:
        for link in self._links:  # with the namespace they would end some time later
            subprocess.run(["ip", "link", "delete", link], capture_output=True)
        self._holder.kill()
        self._holder.wait()


class NetworkPod(Pod):
    """A pod in a namespace of its own; `space` is that namespace."""

    def __init__(self, folder: Path, name: str, space: Namespace, **options: Any) -> None:
        super().__init__(folder, name, port=22, address=space.outer, enter=space.enter, **options)
        self.space = space

    def processes(self) -> dict[int, str]:
        """Add those in its home: vLLM's processes overwrite their environment with their names."""
        found = super().processes()
        for pid in pids():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/cwd") == str(self.home) and is_alive(pid):
                    found.setdefault(pid, read(pid, "cmdline").decode(errors="replace"))
        return found

    def _settings(self) -> list[str]:
        """Listen on all addresses, as the sshd of a pod does."""
        return [line for line in super()._settings() if not line.startswith("ListenAddress ")]


@contextmanager
def networks() -> Iterator[Networks]:
    """Make two networks; they are gone afterwards. Skips the test if this user may not."""
    if os.geteuid():
        skip("networks")
    if lacking := [name for name in ("ip", "tc", "ss", "nft", "unshare", "nsenter") if not machine.which(name)]:
        pytest.fail(f"{', '.join(lacking)} not found; to install what is missing, run: chores/machine.sh network")
    made = Networks()
    try:
        yield made
    finally:
        made.down()
