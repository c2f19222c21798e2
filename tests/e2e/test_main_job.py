"""The main job: a pod over real SSH, set up for real, the real vLLM, a real model, a real answer."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from pi.on_pod import process
from tests.e2e import guard_battery
from tests.e2e.conftest import KEY, TOKEN, Pi
from tests.rig.sshd import SshdPod

TEMPLATE = Path(__file__).parents[1] / "rig" / "smollm2_tools.jinja"
Pods = tuple[SshdPod, SshdPod]


def living(pod: SshdPod) -> list[int]:
    """Processes of deployments: they work in the pod's home, and have an instance id or a name that vLLM gave them.

    vLLM's name for an engine process stands where its environment was.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_here = (entry / "cwd").readlink() == pod.home
                words = (entry / "environ").read_bytes().split(b"\0")
                name = (entry / "comm").read_text()
            except OSError:
                continue
            if is_here and (name.startswith("VLLM::") or any(word.startswith(b"PI_INSTANCE=") for word in words)):
                found.append(int(entry.name))
    return found


def names(listing: str) -> list[str]:
    """The first column of the table that `pi list` printed."""
    return [line.split()[0] for line in listing.splitlines()[1:] if not line.startswith(" ")]


def base_url(start_output: str) -> str:
    found = re.search(r"OPENAI_BASE_URL=(\S+)", start_output)
    assert found, start_output
    return found[1]


@pytest.fixture(scope="module")
def started(pi: Pi, pods: Pods, model: str) -> str:
    """What `pi start` printed for the model `smol` on pod `one`; it serves the tests of this module.

    The pod's own variables ask for vLLM's Rust front end, which has no guard.
    """
    pi.ok("pods", "active", "one")
    with (pods[0].home / ".pi" / "env.sh").open("a") as environment:
        environment.write(
            "export VLLM_USE_RUST_FRONTEND=1 VLLM_RUST_FRONTEND_PATH=/nonexistent VLLM_SERVER_DEV_MODE=1\n"
        )
    return pi.ok("start", model, "--name", "smol")


@pytest.fixture(scope="module")
def server(started: str, pods: Pods) -> guard_battery.Server:
    record = json.loads((pods[0].home / ".pi/run/smol/record.json").read_text())
    return guard_battery.Server(record["port"], KEY)


def test_a_second_setup_finds_everything_done_and_keeps_the_running_model(started: str, pi: Pi, pods: Pods) -> None:
    before = json.loads((pi.config / "pods.json").read_text())["pods"]["one"]
    began = time.monotonic()
    printed = pi.ok("pods", "setup", "one", pods[0].ssh)
    assert time.monotonic() - began < 30
    assert "one is ready" in printed
    after = json.loads((pi.config / "pods.json").read_text())["pods"]["one"]
    assert after["models"] == before["models"]
    assert "running" in pi.ok("list")


def test_the_model_answers_through_pi_prompt(started: str, pi: Pi) -> None:
    answer = pi.ok("prompt", "smol", "--no-tools", "--quiet", "--temperature", "0", "What is the opposite of hot?")
    assert "cold" in answer


def test_the_url_that_start_prints_serves_both_names_to_callers_with_the_key(started: str, model: str) -> None:
    reply = requests.get(f"{base_url(started)}/models", headers={"Authorization": f"Bearer {KEY}"}, timeout=10)
    assert {entry["id"] for entry in reply.json()["data"]} == {"smol", model}


def test_no_route_and_method_answers_without_the_key(server: guard_battery.Server, pods: Pods) -> None:
    log = (pods[0].home / ".vllm_logs" / "smol.log").read_text(errors="replace")
    paths = [*guard_battery.routes(log), "/invocations", "/tokenize", "/detokenize", "/load", "/nowhere"]
    assert len(paths) > 20 and "/v1/messages" in paths, paths
    asked = [
        (method, path) for path in paths for method in guard_battery.METHODS if (method, path) != ("GET", "/health")
    ]
    open_to_all = [(method, path) for method, path in asked if server.status(method, path) != 401]
    assert open_to_all == []


@pytest.mark.parametrize("target", guard_battery.PATHS)
def test_no_other_way_to_write_a_path_answers_without_the_key(target: str, server: guard_battery.Server) -> None:
    assert server.status("GET", target) in (400, 401)


@pytest.mark.parametrize("header", guard_battery.HEADERS)
def test_no_other_header_opens_a_route(header: str, server: guard_battery.Server) -> None:
    for path in ("/metrics", "/v1/models"):
        assert server.status("GET", path, header) in (0, 400, 401)


@pytest.mark.parametrize("header", guard_battery.WITH_KEY)
def test_the_key_opens_every_api_in_every_header(header: str, server: guard_battery.Server) -> None:
    message = json.dumps({"model": "smol", "messages": [{"role": "user", "content": "Hello"}]})
    assert server.status("GET", "/v1/models", header) == 200
    assert server.status("GET", "/metrics", header) == 200
    assert server.status("POST", "/v1/messages/count_tokens", header, message) == 200


def test_a_named_key_opens_every_api_and_is_refused_within_a_second_after_its_end(
    server: guard_battery.Server, pi: Pi, pods: Pods
) -> None:
    message = json.dumps({"model": "smol", "messages": [{"role": "user", "content": "Hello"}]})
    key, file = pi.ok("key", "add", "ann").strip(), pods[0].home / ".pi/keys/keys.json"
    for header in (f"Authorization: Bearer {key}", f"x-api-key: {key}"):
        assert server.status("GET", "/v1/models", header) == 200
        assert server.status("POST", "/v1/messages/count_tokens", header, message) == 200
    time.sleep(1.5)  # counts are written once a second
    [main, ann] = json.loads(pi.ok("key", "list", "--json"))["pods"][0]["keys"]
    assert (main["name"], ann["name"], ann["requests"]) == (None, "ann", 2)
    revoking = pi.spawn("key", "revoke", "ann")
    ended = None
    while server.status("GET", "/metrics", f"x-api-key: {key}") == 200:
        if ended is None and "ann" not in file.read_text():
            ended = time.monotonic()
        assert revoking.poll() is None, "pi returned while the key was accepted"
        time.sleep(0.02)
    assert ended is None or time.monotonic() - ended < 1
    assert "refuse the key ann now" in revoking.communicate(timeout=60)[0]
    assert server.status("GET", "/v1/models", f"Authorization: Bearer {key}") == 401
    assert server.status("GET", "/v1/models", "x-api-key: {key}") == 200


@pytest.mark.parametrize("target", guard_battery.HEALTH)
def test_a_stranger_may_ask_for_health(target: str, server: guard_battery.Server) -> None:
    assert server.status("GET", target) == 200


def test_a_browser_gets_the_answer_to_its_preflight_and_nothing_else(server: guard_battery.Server) -> None:
    for path in ("/v1/chat/completions", "/metrics"):  # vLLM allows no other origin by default
        reply = server.reply("OPTIONS", path, guard_battery.PREFLIGHT).lower()
        assert reply.startswith(b"http/1.1 400 ") and b"access-control-allow-headers: x-api-key" in reply
        assert server.status("GET", path, guard_battery.PREFLIGHT) == 401


def test_a_websocket_without_the_key_is_refused(server: guard_battery.Server) -> None:
    for path in ("/v1/realtime", "/health", "/"):
        assert server.status("GET", path, guard_battery.WEBSOCKET) in (401, 403)


def test_half_requests_of_strangers_leave_the_server_to_others(
    server: guard_battery.Server, pi: Pi, pods: Pods
) -> None:
    """The server gets the 1,024 descriptors that a shell has; each half request keeps one."""
    pid = json.loads((pi.config / "pods.json").read_text())["pods"]["one"]["models"]["smol"]["pid"]
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, limits[1]))
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, own[1]), own[1]))
    try:
        with ExitStack() as stack:
            for _ in range(1500):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
                connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: pod\r\n")
            assert server.status("GET", "/health") == 200
            assert server.status("GET", "/v1/models", "x-api-key: {key}") == 200
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) < 600
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, own)


def test_the_guard_notes_when_the_model_was_asked(server: guard_battery.Server, pods: Pods) -> None:
    asked = pods[0].home / ".pi/run/smol/asked"
    body = json.dumps({"model": "smol", "prompt": "Hello"})
    assert server.status("POST", "/tokenize", "x-api-key: {key}", body) == 200
    assert asked.exists()


def test_only_the_guarded_port_is_open_to_the_network(started: str, pods: Pods) -> None:
    record = json.loads((pods[0].home / ".pi" / "run" / "smol" / "record.json").read_text())
    assert process.public_ports(living(pods[0])) == {record["port"]}
    assert record["side_doors"] == []


def test_neither_key_nor_token_stands_in_any_command_line_or_log(started: str, pi: Pi, pods: Pods) -> None:
    running = pi.spawn("prompt", "smol", "--no-tools", "--max-tokens", "200", "Tell me a story.")
    seen = ""
    while running.poll() is None:
        seen += "\n".join(_command_lines())
        time.sleep(0.01)
    running.communicate()
    assert "pi" in seen
    logs = "".join(path.read_text(errors="replace") for path in (pods[0].home / ".vllm_logs").glob("*.log*"))
    notes = "".join(path.read_text() for path in pi.config.glob("*") if path.is_file())
    for secret in (KEY, TOKEN):
        assert secret not in seen + logs + notes


def test_the_server_holds_its_key_and_not_the_hub_token(started: str, pods: Pods) -> None:
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in living(pods[0])]
    assert any(f"VLLM_API_KEY={KEY}".encode() in environment for environment in environments)
    assert not any(TOKEN.encode() in environment for environment in environments)


def test_logs_shows_what_vllm_wrote(started: str, pi: Pi) -> None:
    assert "Application startup complete" in pi.ok("logs", "smol", "--no-follow", "--lines", "500")


def test_two_pods_hold_different_models_and_dash_dash_pod_reaches_each(
    started: str, pi: Pi, pods: Pods, model: str
) -> None:
    pi.ok("start", model, "--name", "other", "--pod", "two")
    assert names(pi.ok("list")) == ["smol"]
    assert names(pi.ok("list", "--pod", "two")) == ["other"]
    assert pi.ok(
        "prompt", "other", "--pod", "two", "--no-tools", "--quiet", "--temperature", "0", "What is 2+2?"
    ).strip()
    pi.ok("stop", "other", "--pod", "two")
    assert not living(pods[1])


def test_a_killed_server_is_reported_and_its_engine_does_not_keep_the_memory(started: str, pi: Pi, pods: Pods) -> None:
    pid = json.loads((pi.config / "pods.json").read_text())["pods"]["one"]["models"]["smol"]["pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60  # five seconds as a rule; the launcher itself asks for 10 s and more, then kills
    while living(pods[0]) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = [process.described(pid) for pid in living(pods[0])]
    assert not left, "the launcher ends what outlives the server"
    assert "crashed" in pi.ok("list")
    assert "removed what it had left" in pi.ok("stop", "smol")
    assert "no models" in pi.ok("list")


def test_stop_ends_everything_and_frees_the_port(pi: Pi, pods: Pods, model: str) -> None:
    printed = pi.ok("start", model, "--name", "brief")
    port = int(base_url(printed).rpartition(":")[2].split("/")[0])
    pi.ok("stop", "brief")
    assert not living(pods[0])
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/health", timeout=2)


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (["--context", "100k"], 2, "has a context of 8192 tokens"),
        (["--vllm", "--max-model-len", "100000"], 6, "User-specified max_model_len (100000) is greater than"),
        (["--vllm", "--tensor-paralel-size", "2"], 2, "unrecognized arguments: --tensor-paralel-size 2"),
        (
            ["--set", "max-num-sequences=2"],
            2,
            "unrecognized arguments: --max-num-sequences=2 (did you mean --max-num-seqs?)",
        ),
        (
            ["--set", "kv-cache-memory-bytes=much"],
            2,
            "argument --kv-cache-memory-bytes: Value much cannot be converted",
        ),
    ],
    ids=[
        "refused by pi",
        "refused by the model",
        "refused by the command line",
        "refused by the command line of --set",
        "a value refused by the command line",
    ],
)
def test_row_26_a_start_that_fails_says_why_and_leaves_nothing(
    pi: Pi, pods: Pods, model: str, arguments: list[str], code: int, cause: str
) -> None:
    before = (pi.config / "pods.json").read_text()
    done = pi("start", model, "--name", "failing", *arguments)
    assert done.returncode == code, done.stderr
    assert cause in done.stderr
    assert "Traceback" not in done.stderr
    assert (pi.config / "pods.json").read_text() == before
    assert not living(pods[0])


@pytest.fixture
def desk() -> Iterator[Path]:
    """A directory with a name so short and plain that the small model copies it without a slip."""
    folder = Path("/tmp/desk")
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def test_a_tool_call_goes_round_from_the_model_to_the_file_and_back(pi: Pi, pods: Pods, model: str, desk: Path) -> None:
    """The template is a fixture: it shows the small model worked examples of calls. The path is what is tested."""
    (desk / "notes.txt").write_text("Milk and eggs are on sale.\n")
    pi.ok(
        "start", model, "--name", "tools", "--vllm", "--enforce-eager", "--max-model-len", "4096",
        "--max-num-seqs", "4", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
        "--chat-template", str(TEMPLATE),
    )  # fmt: skip
    try:
        printed = pi.ok("prompt", "tools", "--json", "--temperature", "0", f"Read the file {desk}/notes.txt", cwd=desk)
        events = [json.loads(line) for line in printed.splitlines()]
        kinds = [event["type"] for event in events]
        assert "tool_call" in kinds and "tool_result" in kinds
        said = "".join(event["text"] for event in events if event["type"] == "text")
        assert "eggs" in said
    finally:
        pi.ok("stop", "tools")


def _command_lines() -> list[str]:
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return lines
