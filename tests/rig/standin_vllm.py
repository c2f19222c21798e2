"""A stand-in for the command `vllm` that needs no GPU and starts at once.

It takes the arguments of `vllm serve`, opens the port and answers the routes that pi uses.
`~/fault/vllm.json` sets its faults, by the keys of `FAULTS`. It writes its arguments and environment into
`~/received/NAME.json`. It uses only the standard library, because tests copy it into a pod's `~/venv`.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "0.32.0"

FAULTS: dict[str, Any] = {
    "load_s": 0.0,  # seconds until it listens
    "load_until": None,  # file in the home to wait for after that
    "log": None,  # path of a text to write to stdout at once
    "exit": None,  # exit code after that, without listening
    "stands": {},  # by name of the model: the arguments of `stand`
    "refuses": None,  # {"option", "above" or "below", "log"}: exits with this log if the option is out of range
    "max_model_len": 8192,  # what /v1/models reports
    "exit_after_s": None,  # seconds of serving before it dies
    "dies_answering": False,  # it dies during its first streamed answer
    "last_words": None,  # text to write to stdout when it dies
    "ignore_term": False,
    "child": False,  # a child in its own process group that ignores TERM and outlives it
    "stray": False,  # a child that leaves the session and outlives it
    "serve_as": None,  # the one name that /v1/models lists instead of the real ones
    "open_routes": [],  # routes that need no key
    "shares_port": False,  # another server may listen on its port (SO_REUSEPORT)
    "open_outside": False,  # callers from other addresses need no key
    "host": None,  # address to listen on, instead of --host
    "side_door": False,  # another socket, open to the network
    "say": [],  # words to stream as the answer
    "call": None,  # name and arguments of a tool to call before that
    "bench": None,  # last line of a benchmark that fails
    "pause_s": 0.0,  # between the words of an answer
    "at_once": 1000,  # answers at a time; others wait
    "requests": "counted",  # how many run and wait, by /metrics, such as [2, 1]; None: /metrics does not tell
    "hangs": [],  # names of models that answer no request for text from now on, but their health and figures
    "leak": False,  # print the environment and the key in many encodings and in pieces; answer with the key
}

ANSWER = ["The capital", " of France", " is Paris."]


def main() -> None:
    words = sys.argv[1:]
    if words == ["--version"]:
        print(installed_version())
    elif words[:1] == ["download-kernels"]:
        print("kernels are here")
    elif words[:2] == ["bench", "serve"]:
        bench(words)
    elif words[:1] == ["serve"]:
        serve(words)
    else:
        sys.exit("usage: vllm [-h] [-v] {chat,complete,serve,...} ...")


def installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vllm")
    except PackageNotFoundError:
        return VERSION


def serve(words: list[str]) -> None:
    names = served_names(words)
    fault = {**FAULTS, **json.loads(text_of("fault/vllm.json") or "{}")}
    leave_word(names[-1], words)
    held = a_file_of_the_venv()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if fault["ignore_term"] else lambda *_: shut_down())
    say(f"INFO 11-23 14:29:12 [api_server.py:1400] vLLM API server version {VERSION}")
    if fault["child"]:
        outliving_child(leaves_session=False)
    if fault["stray"]:
        outliving_child(leaves_session=True)
    if fault["log"]:
        sys.stdout.buffer.write(Path(fault["log"]).read_bytes())
        sys.stdout.flush()
    if fault["leak"]:
        leak()
    if fault["exit"] is not None:
        os._exit(fault["exit"])
    if names[-1] in fault["stands"]:
        stand(**fault["stands"][names[-1]])
    load(fault)
    if fault["refuses"] and is_out_of_range(words, **fault["refuses"]):
        sys.stdout.buffer.write(Path(fault["refuses"]["log"]).read_bytes())
        sys.stdout.flush()
        os._exit(1)
    peers = meet(words)
    Server.shares_port = fault["shares_port"]
    server = Server((fault["host"] or value_of(words, "--host"), int(value_of(words, "--port"))), Handler)
    doors = [socketserver.TCPServer(("0.0.0.0", 0), Handler)] if fault["side_door"] else []
    server.names = [fault["serve_as"]] if fault["serve_as"] else names
    server.fault, server.places = fault, threading.Semaphore(fault["at_once"])
    say("INFO:     Application startup complete.")
    if fault["exit_after_s"] is not None:
        signal.signal(signal.SIGALRM, lambda *_: die(fault["last_words"]))
        signal.setitimer(signal.ITIMER_REAL, fault["exit_after_s"])
    server.serve_forever(poll_interval=0.05)
    held.close()
    for peer in peers:
        peer.close()
    for door in doors:
        door.server_close()


def meet(words: list[str]) -> list[socket.socket]:
    """Return the connections with the other pods, when all are there. A rank behind the head stays here for good.

    As with the real vLLM, it lives on if the head is gone.
    """
    if "--nnodes" not in words:
        return []
    place = value_of(words, "--master-addr"), int(value_of(words, "--master-port"))
    if "--headless" not in words:
        with socket.create_server(("0.0.0.0", place[1])) as door:
            return [door.accept()[0] for _ in range(int(value_of(words, "--nnodes")) - 1)]
    while True:
        try:
            peer = socket.create_connection(place, source_address=(os.environ["VLLM_HOST_IP"], 0))
            break
        except OSError:
            time.sleep(0.05)
    say("INFO 11-23 14:29:13 [multiproc_executor.py:200] the ranks have met")
    while peer:
        time.sleep(3600)
    return []


def stand(log: str = "", repeats: str = "", path: str = "x.py", function: str = "wait", program: str = "") -> None:
    """Stop getting on: in a function of a file, or in a child program, with a last line or one again and again."""
    importlib.import_module("sitecustomize")  # as Python does without -S
    if log:
        say(log)
    if program:
        child = Path.home() / program
        child.symlink_to("/bin/sleep")
        subprocess.Popen([child, "600"])

    def wait() -> None:
        while True:
            time.sleep(0.2)
            if repeats:
                say(repeats)

    names: dict[str, Any] = {"wait_on": wait}
    exec(compile(f"def {function}():\n    wait_on()\n", path, "exec"), names)
    names[function]()


def load(fault: dict[str, Any]) -> None:
    """Take `load_s`, then wait for the file `load_until` in the pod's home."""
    time.sleep(fault["load_s"])
    while fault["load_until"] and not Path.home().joinpath(fault["load_until"]).exists():
        time.sleep(0.02)


def is_out_of_range(words: list[str], option: str, log: str, above: float = 1e9, below: float = 0) -> bool:
    """Return whether an option's value is too large or too small; without a value, vLLM's own is too large."""
    value = value_of(words, option) if option in words else "auto"
    return value == "auto" or not below <= float(value) <= above


def shut_down() -> None:
    say("INFO:     Shutting down")
    os._exit(0)


def leak() -> None:
    import base64  # these imports would take a fifth of each start
    import shlex
    from urllib.parse import quote

    key = os.environ["VLLM_API_KEY"]
    say(f"environment: {dict(os.environ)}")
    say(f"as JSON: {json.dumps({'key': key})}, and again: {json.dumps(json.dumps(key))}")
    say(f"in URLs: http://host/?key={quote(key, safe='')} http://{quote(key)}@host/")
    say(f"for a shell: export VLLM_API_KEY={shlex.quote(key)}")
    say(f"in base64: {base64.b64encode(key.encode()).decode()} {base64.b64encode(b'me:' + key.encode()).decode()}")
    for character in "in pieces: " + key + "\n":
        print(character, end="", flush=True)
        time.sleep(0.005)
    say(f'Traceback (most recent call last):\n  File "x.py", line 1, in x\nValueError: no such key: {key}')


def die(last_words: str | None) -> None:
    if last_words:
        say(last_words)
    os._exit(1)


def outliving_child(leaves_session: bool) -> None:
    subprocess.Popen(
        ["sh", "-c", "trap '' TERM; exec sleep 600"],
        start_new_session=leaves_session,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def leave_word(name: str, words: list[str]) -> None:
    """Write this server's arguments and environment into a file, atomically."""
    path = Path.home() / "received" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps({"pid": os.getpid(), "argv": words, "env": dict(os.environ)}))
    fresh.replace(path)


def a_file_of_the_venv() -> mmap.mmap:
    """Map a file of the venv into memory, like vLLM's libraries: setup searches there for users of the venv."""
    with (Path(sys.executable).parents[1] / "pyvenv.cfg").open("rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


class Server(ThreadingHTTPServer):
    names: list[str]
    fault: dict[str, Any]
    places: threading.Semaphore
    answered = 0
    """Chats so far."""
    running = 0
    """Chats that are answered now."""
    counting = threading.Lock()
    shares_port = False
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, self.shares_port)
        socketserver.TCPServer.server_bind(self)  # HTTPServer.server_bind looks up this host's name
        self.server_name, self.server_port = "", self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._reply(200, b"")
        elif self._is_refused():
            self._json(401, {"error": {"message": "Unauthorized", "code": 401}})
        elif self.path == "/metrics":
            fault = {**FAULTS, **json.loads(text_of("fault/vllm.json") or "{}")}
            requests = [self.server.running, 0] if fault["requests"] == "counted" else fault["requests"]
            text = metrics(self.server.answered, requests)
            self._reply(200, text.encode(), "text/plain; version=0.0.4")
        elif self.path == "/v1/models":
            models = [
                {"id": name, "object": "model", "max_model_len": self.server.fault["max_model_len"]}
                for name in self.server.names
            ]
            self._json(200, {"object": "list", "data": models})
        else:
            self._json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self._is_refused():
            self._json(401, {"error": {"message": "Unauthorized", "code": 401}})
        elif self.path == "/v1/chat/completions":
            self.server.answered += 1
            self._count(1)
            try:
                with self.server.places:
                    self._stream(json.loads(asked))
            finally:
                self._count(-1)
        elif self.path == "/v1/completions":
            while set(self.server.names).intersection(json.loads(text_of("fault/vllm.json") or "{}").get("hangs", [])):
                time.sleep(0.05)
            self._json(200, {"choices": [{"text": "a"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        else:
            self._json(404, {"detail": "Not Found"})

    def log_message(self, pattern: str, *values: Any) -> None:
        """Log nothing, because pi's requests would fill the log that tests read."""

    def _is_refused(self) -> bool:
        if self.server.fault["open_outside"] and not self.client_address[0].startswith("127."):
            return False
        given = self.headers.get("authorization")
        return given != f"Bearer {os.environ['VLLM_API_KEY']}" and self.path not in self.server.fault["open_routes"]

    def _count(self, more: int) -> None:
        with self.server.counting:
            self.server.running += more

    def _stream(self, asked: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        pieces: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}]
        pieces += self._tool_call(asked) or self._words()
        for piece in pieces:
            if "finish_reason" in piece and self.server.fault["dies_answering"]:
                die(self.server.fault["last_words"])
            time.sleep(self.server.fault["pause_s"])
            self._event({"choices": [{"index": 0, "finish_reason": None, **piece}], "model": asked.get("model")})
        self._event({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": len(pieces)}})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _words(self) -> list[dict[str, Any]]:
        words = list(os.environ["VLLM_API_KEY"]) if self.server.fault["leak"] else self.server.fault["say"] or ANSWER
        return [*({"delta": {"content": word}} for word in words), {"delta": {}, "finish_reason": "stop"}]

    def _tool_call(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a tool call, unless the last message is its result."""
        (Path.home() / "received" / "asked.json").write_text(json.dumps(asked))
        if not self.server.fault["call"] or asked["messages"][-1]["role"] == "tool":
            return []
        name, arguments = self.server.fault["call"]
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"index": 0, "id": "call-1", "type": "function", "function": function}
        return [{"delta": {"tool_calls": [call]}}, {"delta": {}, "finish_reason": "tool_calls"}]

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(
            f"data: {json.dumps({'id': 'chatcmpl-1', 'object': 'chat.completion.chunk', **chunk})}\n\n".encode()
        )
        self.wfile.flush()

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._reply(status, json.dumps(body).encode())

    def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def bench(words: list[str]) -> None:
    """Ask the server once with the key of the environment, and write figures that grow with the concurrency."""
    from urllib.request import Request, urlopen

    fault = {**FAULTS, **json.loads(text_of("fault/vllm.json") or "{}")}
    leave_word("bench", words)
    request = Request(
        f"http://{value_of(words, '--host')}:{value_of(words, '--port')}/v1/models",
        headers={"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
    )
    with urlopen(request, timeout=10) as reply:
        reply.read()
    requests, at_once = int(value_of(words, "--num-prompts")), int(value_of(words, "--max-concurrency"))
    print(f"\r 50%|##   | {requests // 2}/{requests} [00:01<00:01,  1.00it/s]", file=sys.stderr, flush=True)
    if fault["bench"]:
        sys.exit(fault["bench"])
    found: dict[str, Any] = {"completed": requests, "failed": 0, "duration": 2.0, "request_throughput": at_once / 2}
    found |= {"output_throughput": 100.0 * at_once, "total_token_throughput": 500.0 * at_once}
    for place, percentile in enumerate(("p50", "p95", "p99"), 1):
        found |= {f"{percentile}_{metric}_ms": 10.5 * place * at_once for metric in ("ttft", "tpot", "itl")}
    Path(value_of(words, "--result-dir"), value_of(words, "--result-filename")).write_text(json.dumps(found))


def metrics(answered: int, requests: Sequence[int] | None = (2, 1)) -> str:
    """Return what vLLM would report after so many answers of 12 prompt and 3 generated tokens (vLLM 0.33.0).

    `requests` are how many run and wait.
    """
    labels = 'engine="0",model_name="m"'
    lines = []
    for name, kind, value in (
        *zip(("num_requests_running", "num_requests_waiting"), ("gauge", "gauge"), requests or (), strict=False),
        ("kv_cache_usage_perc", "gauge", 0.25),
        ("prompt_tokens_total", "counter", 12 * answered),
        ("generation_tokens_total", "counter", 3 * answered),
        ("prefix_cache_queries_total", "counter", 12 * answered),
        ("prefix_cache_hits_total", "counter", 3 * answered),
    ):
        lines += [f"# HELP vllm:{name} Text.", f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{labels}}} {float(value)}"]
    for name, times in (("time_to_first_token_seconds", 1), ("inter_token_latency_seconds", 3)):
        lines += [f"# HELP vllm:{name} Text.", f"# TYPE vllm:{name} histogram"]
        counts = {"0.1": 0, "0.2": times * answered, "+Inf": times * answered}
        lines += [f'vllm:{name}_bucket{{{labels},le="{bound}"}} {count}.0' for bound, count in counts.items()]
        lines += [f"vllm:{name}_count{{{labels}}} {times * answered}.0", f"vllm:{name}_sum{{{labels}}} 1.0"]
    return "\n".join(["# TYPE python_info gauge", "python_info 1.0", *lines, ""])


def served_names(words: list[str]) -> list[str]:
    after = words[words.index("--served-model-name") + 1 :]
    return after[: next((at for at, word in enumerate(after) if word.startswith("--")), len(after))]


def value_of(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def text_of(path: str) -> str | None:
    file = Path.home() / path
    return file.read_text() if file.exists() else None


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
