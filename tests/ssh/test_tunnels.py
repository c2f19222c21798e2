"""`pi tunnel`: local ports that lead to models, and come back by themselves."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from jsonschema import validate

from chores.json_schemas import shown
from tests.rig.command import KEY, Pi
from tests.rig.pod import is_alive, kill, until
from tests.rig.sshd import free_port
from tests.ssh.conftest import Serving


def asked(port: int) -> http.client.HTTPConnection:
    """A connection to a model on a local port, which answered once and stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    reply = connection.getresponse()
    assert reply.status == 200 and b"qwen" in reply.read()
    return connection


def answers(port: int) -> bool:
    try:
        asked(port).close()
    except OSError:
        return False
    return True


@pytest.fixture
def pi(serving: Serving) -> Iterator[Pi]:
    yield serving.pi
    serving.pi("tunnel", "--close")


@pytest.mark.long
def test_a_tunnel_lives_on_and_reconnects_under_50_streams(pi: Pi, serving: Serving) -> None:
    local = free_port()
    url = f"http://127.0.0.1:{local}/v1"
    assert pi.ok("tunnel", "qwen", "--port", str(local), "--background") == f"qwen on box is at {url}\n"
    file = pi.config / "tunnels" / "box" / "qwen.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"OPENAI_BASE_URL={url}\n" in pi.ok("env", "qwen")
    pid = json.loads(file.read_text())["pid"]
    with open(f"/proc/{pid}/environ", "rb") as environment:
        assert KEY.encode() not in environment.read()
    with ExitStack() as streams, ThreadPoolExecutor(50) as pool:
        for connection in pool.map(lambda _: asked(local), range(50)):
            streams.enter_context(closing(connection))
        for session in serving.box.sessions():
            kill(session)
    assert until(lambda: answers(local))
    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(lambda _: answers(local), range(50)))
    listed = json.loads(pi.ok("tunnel", "--list", "--json"))
    validate(listed, shown("TunnelsJson"))
    assert listed["tunnels"] == [{"model": "qwen", "pod": "box", "url": url, "port": local, "pid": pid, "is_up": True}]
    assert pi.ok("tunnel", "qwen", "--background") == f"qwen on box is at {url} already\n"
    assert pi("tunnel", "qwen").id == "tunnel-open"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "remote": 1}))  # as if the model had another port since
    assert f"OPENAI_BASE_URL={url}\n" not in pi.ok("env", "qwen")
    assert pi.ok("tunnel", "qwen", "--background") == f"qwen on box is at {url}\n"
    assert answers(local) and until(lambda: not is_alive(pid))
    assert pi.ok("tunnel", "qwen", "--close") == "closed the tunnel to qwen on box\n"
    assert not answers(local)
    assert pi("tunnel", "qwen", "--close").id == "no-tunnel"
    assert pi.ok("tunnel", "--background") == f"qwen on box is at {url}\n", "the same port as last time"


def test_a_tunnel_in_the_foreground_ends_with_ctrl_c_and_with_its_process(pi: Pi) -> None:
    local = free_port()
    running = pi.spawn("tunnel", "qwen", "--port", str(local))
    running.reads(f"http://127.0.0.1:{local}/v1")
    assert answers(local)
    running.interrupt()
    assert running.ends().code == 0 and not answers(local)
    killed = pi.spawn("tunnel", "qwen", "--port", str(local))
    killed.reads(f"http://127.0.0.1:{local}/v1")
    killed.interrupt(signal.SIGKILL)
    killed.ends()
    assert until(lambda: not answers(local)), "ssh ends when its parent was killed"
    assert pi.ok("tunnel", "--list").startswith("no tunnels are open")


def test_a_tunnel_that_cannot_open_says_why(pi: Pi) -> None:
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)):
        assert pi("tunnel", "qwen", "--port", str(taken)).id == "local-port-taken"
    assert pi("tunnel", "nobody").id == "unknown-name"
    assert pi("tunnel", "qwen", "--port", "0").id == "port-invalid"
    state = pi.state()
    state["pods"]["dead"] = {**state["pods"]["box"], "ssh": "ssh -p 1 root@127.0.0.1"}
    pi.write(state)
    done = pi("tunnel", "qwen", "-p", "dead", "--background")
    assert (done.code, done.id) == (3, "tunnel-failed") and "cannot reach pod 'dead'" in done.err
    pi.ok("tunnel", "qwen", "--background")
    assert "closed the tunnel to qwen" in pi("pods", "remove", "box", "--force").err
    assert os.listdir(pi.config / "tunnels") == ["dead"]
