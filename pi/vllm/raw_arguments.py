"""Raw arguments for vLLM: those that pi owns or that would open the server are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pi.errors import InputError
from pi.vllm.arguments import SHORT, option

NETWORK = "processes that trust each other would listen on the network, where nobody asks for a key"

OWNED = {
    "--host": "pi decides where the server listens",
    "--port": "pi chooses a free port",
    "--uds": "pi decides where the server listens",
    "--api-key": "the key travels by environment, where no process list shows it",
    "--served-model-name": "pi serves the model under its own id and the name you give with --name",
    "--config": "a file could set any argument that pi keeps for itself",
    "--model": "pi serves the model that you name",
    "--headless": "pi places the processes",
    "--node-rank": "pi places the processes",
    "--nnodes": "pi places the processes",
    "--master-addr": "pi places the processes",
    "--master-port": "pi places the processes",
    "--data-parallel-address": NETWORK,
    "--data-parallel-rpc-port": NETWORK,
    "--data-parallel-rank": "pi places the processes",
    "--data-parallel-external-lb": NETWORK,
    "--data-parallel-hybrid-lb": NETWORK,
    "--data-parallel-multi-port-external-lb": NETWORK,
    "--enable-elastic-ep": NETWORK,
    "--data-parallel-start-rank": "pi places the processes",
    "--data-parallel-supervisor-port": "pi places the processes",
    "--data-parallel-backend": "it would start Ray, whose job API asks for no password",
    "--kv-transfer-config": NETWORK,
    "--kv-events-config": NETWORK,
    "--ec-transfer-config": NETWORK,
    "--weight-transfer-config": NETWORK,
    "--hf-token": "a process list would show the token; HF_TOKEN goes to the pod with pi pods setup",
}
"""Arguments that pi sets or that break what it promises, each with the reason that a user is told."""

OPENING = {
    "--root-path": "it moves routes out from under the API key",
    "--middleware": "it would run other code in front of the key check",
    "--grpc": "it opens a second door that has no API key",
    "--grpc-port": "it opens a second door that has no API key",
    "--tool-server": "it lets the server call other machines",
    "--enable-tokenizer-info-endpoint": "that route has no API key",
    "--profiler-config": "the profiler's routes have no API key",
    "--allowed-local-media-path": "callers could read the pod's files",
    "--ssl-keyfile": "pi's checks speak plain HTTP to the loopback address",
    "--ssl-certfile": "pi's checks speak plain HTTP to the loopback address",
}
"""Arguments that open a server guarded by an API key alone."""

ORDINARY_KEYS = frozenset(["--host", "--port", "--model", "--config"])
"""Refused names that are also harmless keys inside JSON values, such as the model of --speculative-config."""

RUNS_CODE = {
    "--trust-remote-code": "the model's repository brings Python code that vLLM runs on the pod",
    "--tool-parser-plugin": "vLLM runs that Python file on the pod",
    "--reasoning-parser-plugin": "vLLM runs that Python file on the pod",
    "--io-processor-plugin": "vLLM runs that plugin's Python code on the pod",
    "--logits-processors": "vLLM runs that Python code on the pod",
    "--worker-cls": "vLLM runs that Python code on the pod",
    "--worker-extension-cls": "vLLM runs that Python code on the pod",
    "--scheduler-cls": "vLLM runs that Python code on the pod",
}
"""Arguments that a user may give and is warned about."""


def check_raw(args: Iterable[str]) -> None:
    """Raises InputError for a raw argument that pi owns or that would open the server.

    Looked at as vLLM's parser reads them: `--a_b=1` and `--a-b 1` are one, `--a.b` sets a part of `--a`, and
    a beginning such as `--mid` stands for `--middleware`. JSON values are looked into.
    """
    words = list(args)
    for position, word in enumerate(words):
        if unusable(word):
            raise InputError(
                "raw-argument-invalid",
                f"an argument of --vllm holds {unusable(word)}",
                "give each argument as one word of text",
            )
        _check_json(word if word.startswith("{") else word.partition("=")[2])
        name = option(word)
        if name is None:
            continue
        for part in word.partition("=")[0].split(".")[1:]:
            _check_key(part, word.partition("=")[2])
        if not name.startswith("--") and name not in SHORT:
            raise InputError(
                "raw-argument-short", f"--vllm may not contain {name[:40]}", "use the long form of the argument"
            )
        for refused, reason in (OWNED | OPENING).items():
            if len(name) > 2 and refused.startswith(name):
                raise InputError("raw-argument-owned", f"--vllm may not contain {name}: {reason}")
        value = word.partition("=")[2] or (words[position + 1] if position + 1 < len(words) else "")
        if "--distributed-executor-backend".startswith(name) and len(name) > 2 and value.lower() == "ray":
            raise InputError("raw-argument-ray", f"--vllm may not contain {name} ray: {RAY}")


RAY = "Ray's job API asks for no password"


def unusable(text: str) -> str | None:
    """What in a text cannot be handed to a program on the pod as it is; None where there is nothing of the kind."""
    if "\n" in text:
        return "a line break"
    if "\0" in text:
        return "a NUL"
    return "bytes that are no UTF-8" if re.search("[\ud800-\udfff]", text) else None


def _check_json(text: str) -> None:
    """Raises InputError where a JSON value sets an option that pi refuses."""
    if not text.startswith("{"):
        return
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return  # vLLM will not read it either
    for key, value in _keys(document):
        _check_key(key, str(value))


def _check_key(key: str, value: str) -> None:
    """Raises InputError where a key of a JSON value is an option that pi refuses."""
    name = "--" + key.replace("_", "-")
    reason = {**OWNED, **OPENING}.get(name)
    if reason and name not in ORDINARY_KEYS:
        raise InputError("raw-argument-owned", f"--vllm may not contain {key} inside JSON: {reason}")
    if name == "--distributed-executor-backend" and value.lower() == "ray":
        raise InputError("raw-argument-ray", f"--vllm may not contain {key} inside JSON: {RAY}")


def _keys(document: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested objects, with its value."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def code_warnings(args: Iterable[str]) -> tuple[str, ...]:
    """What a user should know of raw arguments that have vLLM run code of others, one sentence each."""
    given = {option(word) for word in args} - {None}
    return tuple(
        f"{name}: {what}, as the pod's user"
        for name, what in RUNS_CODE.items()
        if any(len(str(begun)) > 4 and name.startswith(str(begun)) for begun in given)
    )
