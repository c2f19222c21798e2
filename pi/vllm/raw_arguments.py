"""Check arguments that a user gives to vLLM: some belong to pi, others would open the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pi.errors import InputError
from pi.vllm.arguments import SHORT, Argument, Arguments

NETWORK = "vLLM's own processes would listen on the network without a key"

OWNED = {
    "--host": "pi decides where the server listens",
    "--port": "pi chooses a free port",
    "--uds": "pi decides where the server listens",
    "--api-key": "pi passes the key in the environment, which process lists do not show",
    "--served-model-name": "pi serves the model under its own id and the name you give with --name",
    "--config": "a file could set arguments that pi sets itself",
    "--model": "pi serves the model that you name",
    "--headless": "pi sets up the processes",
    "--node-rank": "pi sets up the processes",
    "--nnodes": "pi start --across a,b serves a model over several pods",
    "--master-addr": "pi sets up the processes",
    "--master-port": "pi sets up the processes",
    "--data-parallel-address": NETWORK,
    "--data-parallel-rpc-port": NETWORK,
    "--data-parallel-rank": "pi sets up the processes",
    "--data-parallel-external-lb": NETWORK,
    "--data-parallel-hybrid-lb": NETWORK,
    "--data-parallel-multi-port-external-lb": NETWORK,
    "--enable-elastic-ep": NETWORK,
    "--data-parallel-start-rank": "pi sets up the processes",
    "--data-parallel-supervisor-port": "pi sets up the processes",
    "--data-parallel-backend": "it would start Ray, whose job API needs no password",
    "--kv-transfer-config": NETWORK,
    "--kv-events-config": NETWORK,
    "--ec-transfer-config": NETWORK,
    "--weight-transfer-config": NETWORK,
    "--hf-token": "a process list would show the token; HF_TOKEN goes to the pod with pi pods setup",
}
"""Arguments that pi sets itself or that break its promises, each with the reason in the message."""

OPENING = {
    "--root-path": "it moves routes past the API key",
    "--middleware": "it would run other code in front of the key check",
    "--grpc": "it opens a second server without an API key",
    "--grpc-port": "it opens a second server without an API key",
    "--tool-server": "the server would call other machines",
    "--enable-tokenizer-info-endpoint": "that route has no API key",
    "--profiler-config": "the profiler's routes have no API key",
    "--allowed-local-media-path": "callers could read the pod's files",
    "--ssl-keyfile": "pi checks the server over plain HTTP on loopback",
    "--ssl-certfile": "pi checks the server over plain HTTP on loopback",
}
"""Arguments that get around the API key, the only guard of the server."""

ORDINARY_KEYS = frozenset(["--host", "--port", "--model", "--config"])
"""Rejected options whose names are harmless as JSON keys, such as `model` in --speculative-config."""

RUNS_CODE = {
    "--trust-remote-code": "the model's repository contains Python code that vLLM runs on the pod",
    "--tool-parser-plugin": "vLLM runs that Python file on the pod",
    "--reasoning-parser-plugin": "vLLM runs that Python file on the pod",
    "--io-processor-plugin": "vLLM runs that plugin's Python code on the pod",
    "--logits-processors": "vLLM runs that Python code on the pod",
    "--worker-cls": "vLLM runs that Python code on the pod",
    "--worker-extension-cls": "vLLM runs that Python code on the pod",
    "--scheduler-cls": "vLLM runs that Python code on the pod",
}
"""Arguments that pi allows with a warning."""


def check_raw(args: Arguments, flag: str = "--vllm") -> None:
    """Raise InputError if an argument is pi's own or would open the server. `flag` is what the user typed before it.

    vLLM's parser takes `--a_b=1` for `--a-b 1`, `--a.b` for a part of `--a`, and a beginning such as `--mid` for
    `--middleware`. Keys inside JSON values are checked too.
    """
    for word in args.words:
        if unusable(word):
            raise InputError(
                "raw-argument-invalid",
                f"an argument of {flag} contains {unusable(word)}",
                "write each argument as one word",
            )
        _check_json(word if word.startswith("{") else word.partition("=")[2], flag)
    for item in args.items:
        if item.option is not None:
            _check_option(item.option, item, flag)


def _check_option(option: str, item: Argument, flag: str) -> None:
    value = item.value or ""
    for part in item.parts:
        _check_key(part, value, flag)
    if not option.startswith("--") and option not in SHORT:
        raise InputError(
            "raw-argument-short", f"{flag} may not contain {option[:40]}", "use the long form of the argument"
        )
    if len(option) == 2:
        return
    for rejected, reason in (OWNED | OPENING).items():
        if rejected.startswith(option):
            raise InputError("raw-argument-owned", f"{flag} may not contain {option}: {reason}", "remove it")
    if "--distributed-executor-backend".startswith(option) and value.lower() == "ray":
        raise InputError("raw-argument-ray", f"{flag} may not contain {option} ray: {RAY}", "remove it")


RAY = "Ray's job API needs no password"


def unusable(text: str) -> str | None:
    """Name what a program on the pod could not read in a text, or return None."""
    if "\n" in text:
        return "a line break"
    if "\0" in text:
        return "a NUL"
    return "bytes that are not UTF-8" if re.search("[\ud800-\udfff]", text) else None


def _check_json(text: str, flag: str) -> None:
    """Raise InputError if a JSON value sets an option that pi rejects."""
    if not text.startswith("{"):
        return
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return  # vLLM cannot parse it either
    for key, value in _keys(document):
        _check_key(key, str(value), flag)


def _check_key(key: str, value: str, flag: str) -> None:
    """Raise InputError if a JSON key is an option that pi rejects."""
    name = "--" + key.replace("_", "-")
    reason = {**OWNED, **OPENING}.get(name)
    if reason and name not in ORDINARY_KEYS:
        raise InputError("raw-argument-owned", f"{flag} may not contain {key} inside JSON: {reason}", "remove it")
    if name == "--distributed-executor-backend" and value.lower() == "ray":
        raise InputError("raw-argument-ray", f"{flag} may not contain {key} inside JSON: {RAY}", "remove it")


def _keys(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of nested objects with its value."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def code_warnings(args: Arguments) -> tuple[str, ...]:
    """Return one sentence for each raw argument that lets vLLM run other people's code."""
    given = {item.option for item in args.items if item.option and len(item.option) > 4}
    return tuple(
        f"{name}: {what}, as the pod's user"
        for name, what in RUNS_CODE.items()
        if any(name.startswith(option) for option in given)
    )
