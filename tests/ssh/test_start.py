"""`pi start`: what arrives on the pod, what is written down, what the user is told."""

from __future__ import annotations

import http.client
import json
import socket
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import KEY, Pi
from tests.rig.patience import patient
from tests.rig.pod import Pod, environ_of, first_free_port, is_alive, listens, session_of, until
from tests.ssh.conftest import NewPod, Serving


def test_a_started_model_is_ready_and_pi_prints_how_to_call_it(serving: Serving) -> None:
    port = serving.pi.models("box")["qwen"]["port"]
    assert f"starting {serving.model} as qwen on box: CPU, port {port}" in serving.told
    assert "qwen is ready on box after" in serving.told
    assert f"export OPENAI_BASE_URL=http://127.0.0.1:{port}/v1\n" in serving.told
    assert 'export OPENAI_API_KEY="$PI_API_KEY"' in serving.told
    assert f"model: {serving.model} (or qwen)" in serving.told
    assert 'pi prompt qwen "Hello"' in serving.told
    assert "does not answer from here" not in serving.told
    assert KEY not in serving.told


def test_the_providers_port_is_printed_and_checked_from_here(pi: Pi, new_pod: NewPod) -> None:
    port = first_free_port()
    mapped = {"PUBLIC_IPADDR": "127.0.0.1", f"VAST_TCP_PORT_{port}": "9"}
    box = new_pod(environment=mapped)
    pi.knows(box)
    told = pi.ok("start", box.model(), "--name", "qwen")
    assert "export OPENAI_BASE_URL=http://127.0.0.1:9/v1\n" in told
    assert "http://127.0.0.1:9/v1 does not answer from here" in told and "pi tunnel qwen works anyway" in told
    assert "http://127.0.0.1:9/v1" in pi.ok("list")
    done = pi("env", "qwen")
    assert "OPENAI_BASE_URL=http://127.0.0.1:9/v1\n" in done.out and "does not answer from here" in done.err


@pytest.mark.core
def test_the_printed_address_answers_with_the_key_and_not_without(serving: Serving) -> None:
    port = serving.pi.models("box")["qwen"]["port"]
    status, body = get(port, "/v1/models", KEY)
    assert status == 200
    assert [entry["id"] for entry in body["data"]] == [serving.model, "qwen"]
    assert get(port, "/v1/models", None)[0] == 401
    assert get(port, "/v1/models", KEY[:-1])[0] == 401


def get(port: int, path: str, key: str | None) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=patient(5))) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def test_what_is_written_down_names_one_process_and_no_secret(serving: Serving) -> None:
    entry = serving.pi.models("box")["qwen"]
    assert entry["pid"] == serving.box.received("qwen")["pid"]
    assert is_alive(entry["pid"])
    assert f"PI_INSTANCE={entry['instance']}".encode() in environ_of(entry["pid"])
    ticks = int(Path(f"/proc/{entry['pid']}/stat").read_text().rpartition(")")[2].split()[19])
    assert entry["pid_start"] == ticks
    assert entry["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (entry["model"], entry["gpu"], entry["status"]) == (serving.model, "", "running")
    assert stat.S_IMODE(serving.pi.state_file.stat().st_mode) == 0o600
    for file in serving.pi.config.iterdir():
        assert file.is_dir() or KEY not in file.read_text()


def test_the_server_lives_in_a_session_of_its_own_with_its_log_in_place(serving: Serving) -> None:
    box = serving.box
    assert session_of(box.received("qwen")["pid"]) == box.record("qwen")["session"]
    assert "Application startup complete." in box.log_of("qwen").read_text()
    assert box.records() == ["qwen"]
    for path in (box.home / ".pi", box.home / ".pi" / "run" / "qwen"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (box.home / ".pi" / "run" / "qwen").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_same_name_twice_is_busy(serving: Serving) -> None:
    before = serving.pi.state()
    done = serving.pi("start", serving.model, "--name", "qwen")
    assert done.code == 5
    assert "qwen is already running" in done.err
    assert "pi stop" in done.err
    assert serving.pi.state() == before
    assert is_alive(before["pods"]["box"]["models"]["qwen"]["pid"])


HOSTILE = [
    "--chat-template={{ '$(touch pwned)' }}",
    "--override",
    '{"a": "b c", "d": ["`id`", "\'"]}',
    "; touch pwned;",
    "$HOME",
    "~",
    "*",
    "",
    " ",
    "EOF",
    "a\\b",
    "\t",
    "'\"'\"'",
    "ü漢🚀",
    "x" * 10_000,
]


def test_vllm_gets_exactly_the_words_that_were_meant(pi: Pi, box: Pod) -> None:
    model = box.model("it's a $(touch pwned) model")
    pi.ok("start", model, "--name", "qwen", "--vllm", *HOSTILE)
    port = pi.models("box")["qwen"]["port"]
    argv = box.received("qwen")["argv"]
    named = ["serve", model, "--served-model-name", model, "qwen", "--host", "0.0.0.0", "--port", str(port)]
    guarded = ["--middleware", "pi_guard.Guard", "--disable-fastapi-docs"]
    assert argv == [*named, *guarded, *HOSTILE]
    assert not list(box.home.rglob("pwned"))


def test_the_guard_stands_before_words_that_could_hide_it(pi: Pi, box: Pod) -> None:
    """After a bare `--` vLLM would take `--middleware` for something else."""
    pi.ok("start", box.model(), "--name", "qwen", "--vllm", "--enforce-eager", "--", "x")
    argv = box.received("qwen")["argv"]
    assert argv.index("--middleware") < argv.index("--")


def test_vllm_gets_the_key_by_environment_and_no_token(pi: Pi, box: Pod) -> None:
    token = "hf_0123456789CANARY"
    (box.home / ".pi" / "env.sh").write_text(f"export HF_TOKEN={token} PI_API_KEY={KEY}\n")
    pi.ok("start", box.model(), "--name", "qwen", HF_TOKEN=token)
    received = box.received("qwen")
    assert received["env"]["VLLM_API_KEY"] == KEY
    assert [name for name, value in received["env"].items() if KEY in value] == ["VLLM_API_KEY"]
    assert token not in json.dumps(received)
    assert KEY not in json.dumps(received["argv"])
    assert received["env"]["HF_HUB_OFFLINE"] == "1"
    assert received["env"]["VLLM_HOST_IP"] == "127.0.0.1"
    assert "CUDA_VISIBLE_DEVICES" not in received["env"]


def test_a_key_of_signs_arrives_as_it_is(pi: Pi, box: Pod) -> None:
    key = "sk-'\"$(id)`id`\\!#&;<>|*?~" + "k" * 2000
    pi.ok("start", box.model(), "--name", "qwen", PI_API_KEY=key)
    assert box.received("qwen")["env"]["VLLM_API_KEY"] == key


def test_models_take_ports_from_8001_on(pi: Pi, box: Pod) -> None:
    model = box.model()
    for name in ("a", "b"):
        pi.ok("start", model, "--name", name)
    a, b = pi.models("box")["a"]["port"], pi.models("box")["b"]["port"]
    assert a != b
    assert {a, b} <= set(range(8001, 8100))
    assert listens(a) and listens(b)


def test_a_port_that_a_stranger_holds_is_left_alone(pi: Pi, box: Pod) -> None:
    taken = first_free_port()
    with socket.create_server(("127.0.0.1", taken)):
        pi.ok("start", box.model(), "--name", "qwen")
    assert pi.models("box")["qwen"]["port"] != taken


def test_the_name_of_a_crashed_model_may_be_used_again(pi: Pi, box: Pod) -> None:
    box.fault("vllm", exit_after_s=0.3)
    pi.ok("start", box.model(), "--name", "qwen")
    first = pi.models("box")["qwen"]["pid"]
    box.fault("vllm")
    assert until(lambda: not is_alive(first))
    pi.ok("start", box.model("other"), "--name", "qwen")
    assert is_alive(pi.models("box")["qwen"]["pid"])


@pytest.mark.core
def test_two_starts_at_once_take_different_ports_and_gpus(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=2)
    box.fault("vllm", load_s=1)
    model = box.model()
    running = [pi.spawn("start", model, "--name", name) for name in ("a", "b")]
    ended = [one.ends() for one in running]
    assert [done.code for done in ended] == [0, 0], ended
    a, b = pi.models("box")["a"], pi.models("box")["b"]
    assert a["port"] != b["port"]
    assert {a["gpu"], b["gpu"]} == {"0", "1"}


def test_two_starts_of_one_name_at_once_start_one(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=1)
    model = box.model()
    running = [pi.spawn("start", model, "--name", "qwen") for _ in range(2)]
    ended = [one.ends() for one in running]
    assert sorted(done.code for done in ended) == [0, 5], ended
    assert box.records() == ["qwen"]


def test_a_model_gets_the_gpu_that_nobody_uses(pi: Pi, box: Pod) -> None:
    """Card 0 is half full of something that pi knows nothing of."""
    box.cards("h100_8", count=2, used_mib={"0": 40000})
    told = pi.ok("start", box.model(), "--name", "qwen", "--memory", "40%")
    assert "GPU 1" in told
    assert pi.models("box")["qwen"]["gpu"] == "1"
    received = box.received("qwen")
    assert received["env"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert received["env"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    argv = received["argv"]
    assert argv[argv.index("--gpu-memory-utilization") + 1] == "0.4"


def test_a_pod_whose_gpus_are_full_is_busy(pi: Pi, box: Pod) -> None:
    box.cards("rtx_4090_2", used_mib={"0": 24000, "1": 24000})
    done = pi("start", box.model(), "--name", "qwen")
    assert done.code == 5
    assert "not by pi" in done.err
    assert box.records() == []
    assert pi.models("box") == {}


def test_more_gpus_than_the_pod_has_is_an_error_of_the_call(pi: Pi, box: Pod) -> None:
    box.cards("rtx_4090_2")
    done = pi("start", box.model(), "--name", "qwen", "--gpus", "4")
    assert done.code == 2
    assert "--gpus 4: the pod has 2 GPUs" in done.err
    assert box.records() == []


def test_two_pods_hold_different_models(pi: Pi, new_pod: NewPod) -> None:
    one, two = new_pod("one"), new_pod("two")
    pi.knows(one, two)
    pi.ok("start", one.model(), "--name", "a")
    assert '  pi prompt b --pod two "Hello"' in pi.ok("start", two.model(), "--name", "b", "--pod", "two")
    assert one.records() == ["a"] and two.records() == ["b"]
    assert list(pi.models("one")) == ["a"] and list(pi.models("two")) == ["b"]
    assert "b" not in names(pi.ok("list"))
    assert names(pi.ok("list", "--pod", "two")) == ["b"]
    two.fault("vllm", exit=1)
    assert "the whole log: pi logs c --pod two (" in pi("start", two.model("c"), "--name", "c", "--pod", "two").err
    done = pi("list", "--pod", "three")
    assert (done.code, done.out) == (2, "")


def names(table: str) -> list[str]:
    """Return the first cells of a table; what follows it is indented."""
    return [line.split()[0] for line in table.splitlines()[1:] if not line.startswith(" ")]


def test_a_missing_directory_is_reported_and_nothing_started(pi: Pi, box: Pod) -> None:
    done = pi("start", "/no/such/model", "--name", "qwen")
    assert (done.code, done.id) == (1, "no-such-path")
    assert "/no/such/model" in done.err
    assert box.records() == [] and pi.models("box") == {}


def test_a_path_of_the_pods_home_may_begin_with_a_tilde(pi: Pi, box: Pod) -> None:
    box.model("mine")
    pi.ok("start", "~/models/mine", "--name", "qwen")
    assert box.received("qwen")["argv"][1] == str(box.home / "models" / "mine")


@pytest.mark.core
def test_weights_that_are_missing_are_fetched_with_progress(pi: Pi, box: Pod) -> None:
    box.fault("hf", seconds=1.2, bytes=50 * 2**20)
    done = pi("start", "Acme/Tiny-1B", "--name", "tiny")
    assert done.code == 0, done.err
    assert "downloading" in done.err and " MB" in done.err
    asked = box.received("hf")
    assert asked["argv"][:2] == ["download", "Acme/Tiny-1B"]
    assert box.received("tiny")["argv"][1:5] == ["Acme/Tiny-1B", "--served-model-name", "Acme/Tiny-1B", "tiny"]


def test_cached_weights_are_not_fetched_again(pi: Pi, box: Pod) -> None:
    pi.ok("start", "Acme/Tiny-1B", "--name", "a")
    box.fault("hf", fail="not_found")
    pi.ok("start", "Acme/Tiny-1B", "--name", "b")


def test_only_the_download_gets_the_token(pi: Pi, box: Pod) -> None:
    token = "hf_0123456789CANARY"
    with (box.home / ".pi" / "env.sh").open("a") as file:
        file.write(f"export HF_TOKEN={token}\n")
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    asked = box.received("hf")
    assert asked["env"]["HF_TOKEN"] == token
    assert token not in json.dumps(asked["argv"])
    assert token not in json.dumps(box.received("tiny"))


def test_a_private_model_listens_on_loopback_alone_and_is_reached_over_ssh(pi: Pi, box: Pod) -> None:
    told = pi.ok("start", box.model(), "--name", "qwen", "--private")
    port = pi.models("box")["qwen"]["port"]
    assert f"it listens on the pod's loopback only, port {port}; use it over SSH" in told
    assert "OPENAI_BASE_URL" not in told
    argv = box.received("qwen")["argv"]
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    _, line, _ = pi.ok("list").splitlines()
    assert line.endswith("over SSH only")
    assert pi.models("box")["qwen"]["private"] is True
    assert "The capital of France is Paris." in pi.ok("prompt", "qwen", "What is the capital of France?")


def test_a_socket_besides_the_servers_own_that_the_network_reaches_is_reported(pi: Pi, box: Pod) -> None:
    box.fault("vllm", side_door=True)
    done = pi("start", box.model(), "--name", "qwen")
    assert done.code == 0
    [door] = box.record("qwen")["side_doors"]
    assert f"vLLM also listens without a key on port {door}; close it with a firewall" in done.err


def test_a_server_alone_opens_no_other_door(serving: Serving) -> None:
    assert serving.box.record("qwen")["side_doors"] == []
