"""pi_guard.py, the middleware of every server, by its ASGI interface and in front of a real uvicorn."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn
from starlette.middleware.cors import CORSMiddleware

import pi.setup
from pi.calls.templates import render

KEY = "sk-test-0123456789abcdef"
Headers = list[tuple[str, str]]


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return imported()


def imported() -> ModuleType:
    """Return the template as a server imports it."""
    path = Path(pi.setup.__file__).parent / "templates" / "pi_guard.py"
    spec = importlib.util.spec_from_file_location("pi_guard", path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Routes:
    """Stands for vLLM's routes behind its own check under /v1; notes the requests that reach them."""

    def __init__(self) -> None:
        self.reached: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        is_known = scheme.lower() == b"bearer" and token == KEY.encode()
        status = 401 if scope["path"].startswith("/v1") and not is_known else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
def guard(module: ModuleType, routes: Routes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guard in front of vLLM's CORS middleware, as `vllm serve` puts it."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    cors = CORSMiddleware(routes, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    return module.Guard(cors)


def answered(app: Any, method: str, path: str, headers: Headers | None = None, kind: str = "http") -> dict[str, Any]:
    """Return the first message of the answer to a request, with its headers as a dictionary."""
    sent: list[dict[str, Any]] = []
    scope: dict[str, Any] = {
        "type": kind, "path": path.partition("?")[0], "raw_path": path.encode(),
        "query_string": path.partition("?")[2].encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers or []],
    }  # fmt: skip
    if kind == "http":
        scope["method"] = method

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        await app(scope, receive, send)

    asyncio.run(run())
    return {**sent[0], "headers": dict(sent[0].get("headers", []))}


def bearer(token: str, scheme: str = "Bearer") -> tuple[str, str]:
    return "Authorization", f"{scheme} {token}"


ADMITTED: dict[str, Headers] = {
    "Bearer": [bearer(KEY)],
    "bearer in lower case": [bearer(KEY, "bearer")],
    "BEARER in capitals": [bearer(KEY, "BEARER")],
    "x-api-key": [("x-api-key", KEY)],
    "X-API-Key": [("X-API-Key", KEY)],
    "both, as an apiKeyHelper sends them": [bearer(KEY), ("x-api-key", KEY)],
    "x-api-key beside another login": [("Authorization", "Basic YTpi"), ("x-api-key", KEY)],
    "Bearer beside another x-api-key": [bearer(KEY), ("x-api-key", "none")],
}
PATHS = ["/v1/models", "/v1/messages", "/metrics", "/tokenize", "/nowhere"]


@pytest.mark.parametrize("headers", ADMITTED.values(), ids=ADMITTED)
def test_a_caller_with_the_key_reaches_every_route(headers: Headers, guard: Any, routes: Routes) -> None:
    for path in PATHS:
        assert answered(guard, "POST", path, headers)["status"] == 200
    assert len(routes.reached) == len(PATHS)
    assert answered(guard, "", "/v1/realtime", headers, "websocket")["type"] == "websocket.accept"


REFUSED: dict[str, Headers] = {
    "no header": [],
    "another key": [bearer("sk-other")],
    "no scheme": [("Authorization", KEY)],
    "a scheme alone": [("Authorization", "Bearer")],
    "Basic": [bearer(KEY, "Basic")],
    "two spaces": [bearer(" " + KEY)],
    "a space behind it": [bearer(KEY + " ")],
    "the beginning of the key": [bearer(KEY[:-1])],
    "more than the key": [bearer(KEY + "x")],
    "two headers, one right": [bearer("x"), bearer(KEY)],
    "the same header twice": [bearer(KEY), bearer(KEY)],
    "two x-api-keys, one right": [("x-api-key", KEY), ("x-api-key", "x")],
    "Bearer in x-api-key": [("x-api-key", f"Bearer {KEY}")],
    "an empty x-api-key": [("x-api-key", "")],
    "another name": [("api-key", KEY)],
    "a name with an underscore": [("x_api_key", KEY)],
    "a proxy's login": [("Proxy-Authorization", f"Bearer {KEY}")],
    "a cookie": [("Cookie", f"x-api-key={KEY}")],
    "letters beyond ASCII": [bearer("kéy")],
    "an Origin": [("Origin", "https://a.example")],
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
def test_a_caller_without_the_key_reaches_nothing(headers: Headers, guard: Any, routes: Routes) -> None:
    for method in ("GET", "POST", "HEAD", "PUT", "OPTIONS", "TRACE", "get"):
        for path in [*PATHS, "/", "//health", "/health/", "/health/x", "/HEALTH", "/v1/../health"]:
            reply = answered(guard, method, path, headers)
            assert (reply["status"], reply["headers"][b"www-authenticate"]) == (401, b"Bearer"), (method, path)
    assert answered(guard, "POST", "/health", headers)["status"] == 401
    assert answered(guard, "", "/v1/realtime", headers, "websocket")["type"] == "websocket.close"
    assert answered(guard, "", "/health", headers, "websocket")["type"] == "websocket.close"
    assert routes.reached == []


@pytest.mark.parametrize(
    "target", ["/v1/models?api_key={}", "/v1/models?key={}", "/v1/models;x-api-key={}", "/{}/metrics"]
)
def test_the_key_in_an_address_opens_nothing(target: str, guard: Any, routes: Routes) -> None:
    assert answered(guard, "GET", target.format(KEY))["status"] == 401
    assert routes.reached == []


def test_anyone_may_ask_for_health(guard: Any) -> None:
    assert answered(guard, "GET", "/health")["status"] == 200


ORIGIN = ("Origin", "https://app.example")
ASKS = ("Access-Control-Request-Method", "POST")


@pytest.mark.parametrize("path", [*PATHS, "/health"])
def test_a_preflight_gets_the_answer_of_cors_and_reaches_no_route(path: str, guard: Any, routes: Routes) -> None:
    asked = [ORIGIN, ASKS, ("Access-Control-Request-Headers", "authorization,x-api-key")]
    reply = answered(guard, "OPTIONS", path, asked)
    assert reply["status"] == 200
    assert reply["headers"][b"access-control-allow-origin"] == b"*"
    assert b"x-api-key" in reply["headers"][b"access-control-allow-headers"]
    assert routes.reached == []


@pytest.mark.parametrize("headers", [[ORIGIN], [ASKS], []], ids=["origin alone", "method alone", "neither"])
def test_another_options_request_needs_the_key(headers: Headers, guard: Any) -> None:
    assert answered(guard, "OPTIONS", "/metrics", headers)["status"] == 401


def test_a_preflight_of_another_method_needs_the_key(guard: Any, routes: Routes) -> None:
    for method in ("GET", "POST", "options"):
        assert answered(guard, method, "/metrics", [ORIGIN, ASKS])["status"] == 401
    assert routes.reached == []


def test_a_preflight_reads_no_body_and_shows_no_path_without_cors(
    module: ModuleType, routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    answered(module.Guard(routes), "OPTIONS", "/metrics", [ORIGIN, ASKS])
    [scope] = routes.reached
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/", b"/", b"")


def test_the_server_sees_one_key_where_vllm_looks_for_it(guard: Any, routes: Routes) -> None:
    answered(guard, "POST", "/v1/messages", [("x-api-key", KEY), ("anthropic-version", "2023-06-01")])
    [scope] = routes.reached
    assert scope["headers"] == [(b"anthropic-version", b"2023-06-01"), (b"authorization", f"Bearer {KEY}".encode())]


def test_a_request_leaves_its_time_and_a_look_does_not(
    guard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    monkeypatch.setenv("PI_ASKED", str(asked))
    answered(guard, "GET", "/v1/models", [bearer(KEY)])
    answered(guard, "POST", "/v1/models")
    answered(guard, "GET", "/health")
    assert not asked.exists()
    answered(guard, "POST", "/v1/chat/completions", [bearer(KEY)])
    assert asked.stat().st_mtime > time.time() - 5
    asked.unlink()
    answered(guard, "POST", "/v1/chat/completions", [bearer(KEY)])
    assert not asked.exists(), "once a minute is enough"


MARK = "0f3c2a9b-mark-of-this-launch"


@pytest.fixture
def watched(module: ModuleType, routes: Routes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A guard that knows the mark of pi's watchdog."""
    for name, value in {"VLLM_API_KEY": KEY, "PI_PROBE": MARK, "PI_ASKED": str(tmp_path / "asked")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PI_KEYS", str(tmp_path))
    yield module.Guard(routes)
    for name in ("uvicorn.access", "vllm.v1.metrics.loggers"):
        logging.getLogger(name).filters.clear()


def test_a_probe_of_pi_counts_as_no_use_and_its_mark_goes_no_further(
    watched: Any, routes: Routes, tmp_path: Path
) -> None:
    reply = answered(watched, "POST", "/v1/completions", [bearer(KEY), ("x-pi-probe", MARK)])
    assert reply["status"] == 200 and b"x-pi-probe" not in dict(routes.reached[0]["headers"])
    watched._counts.write()
    assert not (tmp_path / "asked").exists() and not (tmp_path / "counts.json").exists()


@pytest.mark.parametrize("marks", [["guess"], [""], [MARK, MARK]])
def test_a_request_with_another_mark_counts(marks: list[str], watched: Any, tmp_path: Path) -> None:
    answered(watched, "POST", "/v1/completions", [bearer(KEY), *(("x-pi-probe", mark) for mark in marks)])
    watched._counts.write()
    assert (tmp_path / "counts.json").exists()


def test_the_mark_alone_opens_nothing(watched: Any, guard: Any) -> None:
    assert answered(watched, "POST", "/v1/completions", [("x-pi-probe", MARK)])["status"] == 401
    assert not guard._probes.has({"headers": [(b"x-pi-probe", b"")]}), "a launch without a watchdog has no mark"


def test_probes_leave_no_line_in_the_log(watched: Any) -> None:
    access, figures = logging.getLogger("uvicorn.access"), logging.getLogger("vllm.v1.metrics.loggers")

    def line(client: str) -> Any:
        return logging.LogRecord("uvicorn.access", 20, "", 1, '%s - "%s"', (client, "POST /x"), None)

    def throughput() -> Any:
        return logging.LogRecord("v", 20, "", 1, "Engine %03d: Avg prompt throughput: %.1f tokens/s", (0, 0.1), None)

    with watched._probes.unlogged({"client": ("127.0.0.1", 41)}):
        assert not access.filter(line("127.0.0.1:41")) and access.filter(line("127.0.0.1:42"))
        assert not figures.filter(throughput())
    assert access.filter(line("127.0.0.1:41"))
    with watched._probes.use({"method": "GET"}):
        assert not figures.filter(throughput())
    with watched._probes.use({"method": "POST"}):
        assert figures.filter(throughput())
    assert figures.filter(throughput()), "vLLM reports the last seconds of a request after its end"


# --- in front of uvicorn


REQUEST_S = 0.6


@pytest.fixture(params=["httptools", "h11"])
def port(
    request: pytest.FixtureRequest, module: ModuleType, guard: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """The port of a server with room for 16 connections that wait."""
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    monkeypatch.setattr(module, "REQUEST_S", REQUEST_S)
    monkeypatch.setattr(module, "resource", Limits)
    protocol = {"h11": H11Protocol, "httptools": HttpToolsProtocol}[request.param]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(guard, http=module.impatient(protocol), log_level="critical", timeout_keep_alive=30)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


class Limits:
    RLIMIT_NOFILE = resource.RLIMIT_NOFILE

    @staticmethod
    def getrlimit(_: int) -> tuple[int, int]:
        return 64, 64


HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
WITH_KEY = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\n\r\n".encode()


def opened(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(data)
    return connection


def reply(connection: socket.socket) -> bytes:
    """Return what arrives next; nothing if the server has closed the connection."""
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""


def ends_in_s(connection: socket.socket) -> float:
    began = time.monotonic()
    assert reply(connection) == b""
    return time.monotonic() - began


@pytest.mark.parametrize("data", [b"", HALF], ids=["nothing", "half a request"])
def test_a_stranger_who_sends_no_whole_request_is_cut_off(data: bytes, port: int) -> None:
    with opened(port, data) as connection:
        assert 0.5 * REQUEST_S < ends_in_s(connection) < REQUEST_S + 2


def test_a_stranger_who_trickles_is_cut_off_also_after_a_whole_request(port: int) -> None:
    with opened(port, HEALTH) as connection:
        assert b"200 OK" in reply(connection)
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < REQUEST_S + 2:
                connection.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began < REQUEST_S + 1


def test_a_crowd_of_half_requests_leaves_room_for_everyone(port: int) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(opened(port, HALF)) for _ in range(60)]
        with opened(port, HEALTH) as other, opened(port, WITH_KEY) as caller:
            assert b"200 OK" in reply(other) and b"200 OK" in reply(caller)
        for connection in crowd[:40]:
            assert ends_in_s(connection) < REQUEST_S, "the oldest make room at once"


def test_a_caller_with_the_key_may_wait_between_requests(port: int) -> None:
    with opened(port, WITH_KEY) as caller:
        answer = reply(caller)
        assert b"200 OK" in answer
        while not answer.endswith(b"0\r\n\r\n"):
            answer += reply(caller)
        time.sleep(2 * REQUEST_S)
        caller.sendall(WITH_KEY)
        assert b"200 OK" in reply(caller)


def test_the_import_makes_the_protocol_of_vllms_servers_impatient(module: ModuleType) -> None:
    from uvicorn.protocols.http import auto

    assert auto.AutoHTTPProtocol.__name__ == "Impatient"
    config = uvicorn.Config(lambda: None)
    config.load()
    assert config.http_protocol_class is auto.AutoHTTPProtocol


# --- the launcher


OF_THE_POD = {
    "VLLM_USE_RUST_FRONTEND": "1",
    "VLLM_RUST_FRONTEND_PATH": "/opt/vllm-rs",
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
    "VLLM_DP_MASTER_IP": "0.0.0.0",
    "VLLM_ELASTIC_EP_SCALE_UP_LAUNCH": "1",
    "PYTHONPATH": "/opt/other",
}


def test_the_pods_own_variables_do_not_replace_the_guarded_server(tmp_path: Path) -> None:
    run, program = tmp_path / ".pi/run/q", tmp_path / "venv/bin/vllm"
    for folder in (run, program.parent):
        folder.mkdir(parents=True)
    (run / "key").write_text(KEY)
    program.write_text("#!/bin/bash\ncat /proc/$$/environ >~/environ\n")
    program.chmod(0o755)
    own = {"name": "q", "instance": "i", "venv": "venv", "port": 8001, "restarts": 0, "idle_s": None}
    own |= {"watch": True, "api": "chat", "on_idle": "", "peers": []}
    script = render("launch.sh.j2", **own, environment={}, argv=["vllm", "serve", "a/b"])
    (run / "launch.sh").write_text(script)
    given = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **OF_THE_POD, "VLLM_LOGGING_LEVEL": "DEBUG"}
    subprocess.run(["bash", run / "launch.sh"], env=given, cwd=tmp_path, check=True, start_new_session=True)
    entries = dict(entry.split("=", 1) for entry in (tmp_path / "environ").read_text().split("\0")[:-1])
    expected = {"VLLM_API_KEY", "VLLM_LOGGING_LEVEL", "VLLM_USE_RUST_FRONTEND"}
    assert {name for name in entries if name.startswith("VLLM_")} == expected
    assert entries["VLLM_USE_RUST_FRONTEND"] == "0"
    assert entries["PYTHONPATH"] == str(run)
    assert entries["PI_ASKED"] == str(run / "asked")
    assert len(entries["PI_PROBE"]) > 30
