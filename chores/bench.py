"""`inv bench`: pi's wall times next to those of comparable programs, from one run.

Whole processes, in turn, medians. The ratio is the median of the pairs' ratios, so a busy machine slows both
sides. The start of a model needs the pod of `make demo`.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chores import bench_door, bench_planner, bench_pods, bench_prompt, bench_replicas
from tests.rig.sshd import SshdPod

ROOT = Path(__file__).parents[1]
PI = Path(sys.executable).parent / "pi"
KEY = "sk-bench-0123456789abcdef"
HEAVY = ("fabric", "paramiko", "openai", "requests", "jinja2")


def report() -> None:
    """Print every figure, with its target if it has one."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PI_CONFIG_DIR": folder, "PI_API_KEY": KEY, "HF_TOKEN": "none"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed pi is compiled once, not in every run
        pods_json = Path(folder) / "pods.json"
        pods_json.write_text(json.dumps({"pods": {"x": {"ssh": "ssh root@192.0.2.1", "gpus": [], "models": {}}}}))
        bare = [sys.executable, "-c", "import invoke"]
        compare("pi pods", [PI, "pods"], "python -c 'import invoke'", bare, environment, "at most 1.0")
        print(f"  heavy imports of `pi pods`: {', '.join(heavy_imports(environment)) or 'none'} (target: none)\n")
        bench_planner.report()
        bench_pods.report(environment)
        bench_door.report(Path(folder) / "door")
        bench_replicas.report(Path(folder) / "replicas")
        demo = ROOT / ".demo"
        if not (demo / "models" / "smollm2").exists():
            print("the times of list and start need the pod of `make demo`; run it once")
            return
        pod = SshdPod(demo / "pod").up()
        try:
            pods_json.write_text(json.dumps({"pods": {"b": {"ssh": pod.ssh, "gpus": [], "models": {}}}, "active": "b"}))
            listing(pod, environment)
            port = starting(pod, demo / "models" / "smollm2", environment)
            bench_prompt.report(pod, environment, port, "bench")
        finally:
            subprocess.run([PI, "stop", "-y"], env=environment, capture_output=True)
            pod.down()


def compare(
    name: str,
    ours: Sequence[str | Path],
    other_name: str,
    other: Sequence[str | Path],
    environment: dict[str, str],
    target: str,
) -> None:
    """Time two commands in turn, 15 times each."""
    pairs = [(timed(ours, environment), timed(other, environment)) for _ in range(15)]
    ratio = statistics.median(a / b for a, b in pairs)
    mine, its = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
    print(f"{name}: {mine:.0f} ms; {other_name}: {its:.0f} ms; ratio {ratio:.2f} (target: {target})")


def timed(command: Sequence[str | Path], environment: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.monotonic() - began


def heavy_imports(environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", PI, "pods"], env=environment, capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    return sorted(imported & set(HEAVY))


def listing(pod: SshdPod, environment: dict[str, str]) -> None:
    """Time `pi list` with no models and with four, and count the connections that it opens."""
    run = pod.home / ".pi" / "run"
    for count in (0, 4):
        for number in range(count):
            folder = run / f"bench{number}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "record.json").write_text(json.dumps(standing_record(number)))
        before = pod.log.read_text().count("Accepted publickey")
        times = [timed([PI, "list"], environment) for _ in range(7)]
        opened = pod.log.read_text().count("Accepted publickey") - before
        print(f"pi list, {count} models: {statistics.median(times) * 1000:.0f} ms, {opened / 7:g} connection(s) each")
    for number in range(4):
        shutil.rmtree(run / f"bench{number}")
    print()


def standing_record(number: int) -> dict[str, object]:
    """Return a record whose process is this one: alive, so pi checks its health like any other."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return {
        "name": f"bench{number}", "model": "bench", "port": 9, "gpus": [], "status": "running", "pid": os.getpid(),
        "started": started, "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "instance": f"bench{number}", "session": -1,
    }  # fmt: skip


def starting(pod: SshdPod, model: Path, environment: dict[str, str]) -> int:
    """Time `pi start` next to the same command run by hand until /health answers.

    Return the port at which the model keeps running.
    """
    words: list[str | Path] = [PI, "start", model, "--name", "bench"]
    timed(words, environment)  # warms the page cache for both
    launcher = (pod.home / ".pi" / "run" / "bench" / "launch.sh").read_text()
    key = (pod.home / ".pi" / "run" / "bench" / "key").read_text()
    subprocess.run([PI, "stop", "bench"], env=environment, capture_output=True, check=True)
    pairs = []
    for _ in range(3):
        subprocess.run([PI, "stop", "bench"], env=environment, capture_output=True)
        bare = bare_start(pod, launcher, key)
        pairs.append((timed(words, environment), bare))
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    over = statistics.median(a - b for a, b in pairs)
    print(f"pi start until it returns: {ours:.1f} s; bare `vllm serve` until /health: {bare:.1f} s;")
    print(f"  ratio {statistics.median(a / b for a, b in pairs):.2f}, {over:+.1f} s (target: at most +2 s)\n")
    deployments = json.loads((Path(environment["PI_CONFIG_DIR"]) / "pods.json").read_text())["pods"]["b"]["models"]
    return int(deployments["bench"]["port"])


def bare_start(pod: SshdPod, launcher: str, key: str) -> float:
    """Run the launcher's own command and environment; return the seconds until a healthy answer."""
    prepared = launcher.split("trap 'kill")[0].replace('VLLM_API_KEY=$(<"$here/key")', f"VLLM_API_KEY={key}")
    script = prepared + 'exec "${arguments[@]}"\n'
    began = time.monotonic()
    server = subprocess.Popen(
        ["bash", "-c", script],
        env={"HOME": str(pod.home), "PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    port = int(launcher.split("--port\n")[1].split()[0])
    while server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    taken = time.monotonic() - began
    server.terminate()
    server.wait()
    return taken
