"""A plan as the words and the environment of `vllm serve`, and the arguments that pi keeps for itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pi.errors import InputError

if TYPE_CHECKING:
    from pi.planner import LaunchPlan

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

SHORT = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dcp": "--decode-context-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
    "-ep": "--enable-expert-parallel",
    "-q": "--quantization",
    "-O": "--optimization-level",
    "-cc": "--compilation-config",
    "-ac": "--attention-config",
    "-sc": "--speculative-config",
    "-dc": "--diffusion-config",
    "-asc": "--api-server-count",
}
"""vLLM's short options that a user may give; the others belong to pi."""

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

RESERVED = re.compile(
    r"PATH|HOME|IFS|ENV|SHELLOPTS|BASH\w*|LD_\w*|PYTHON\w*|PI_\w*|HF_TOKEN|HF_HUB_OFFLINE|HUGGING_FACE_HUB_TOKEN|"
    r"VLLM_(API_KEY|HOST_IP|PORT|SERVER_DEV_MODE|ALLOW_RUNTIME_LORA_UPDATING|PLUGINS)"
)
"""Variables that an entry of a models.toml may not set: they are pi's, choose programs, or open the server."""

MAX_CONTEXT = 100_000_000
FEWEST_TOKENS = 256
"""A context below it is taken for a slip of the keyboard."""


def command(plan: LaunchPlan, host: str, rank: int = 0, master: tuple[str, int] | None = None) -> tuple[str, ...]:
    """The words that start the model on `host`; `rank` and `master` (address, port) for one spread over pods."""
    words = ["vllm", "serve", plan.model, "--served-model-name", *plan.served_names]
    if rank == 0:
        words += ["--host", host, "--port", str(plan.port)]
    if master is not None:
        words += _place(plan, rank, master)
    return (*words, *plan.args)


def _place(plan: LaunchPlan, rank: int, master: tuple[str, int]) -> list[str]:
    """Where this pod's processes belong among those of all pods; only the first pod's answer HTTP."""
    address, port = master
    if plan.split.data > 1:
        words = ["--data-parallel-address", address, "--data-parallel-rpc-port", str(port)]
        start = ["--data-parallel-start-rank", str(rank * plan.split.data // plan.nodes)]
        return [*words, "--headless", *start] if rank else words
    words = ["--node-rank", str(rank), "--master-addr", address, "--master-port", str(port)]
    return [*words, "--headless"] if rank else words


def environment(plan: LaunchPlan) -> dict[str, str]:
    """Variables of the plan, and the loopback address for vLLM's own processes where one pod holds them all.

    Raises InputError for a variable that a models.toml may not set.
    """
    for name, value in plan.env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name, re.ASCII) or RESERVED.fullmatch(name):
            raise InputError(f"{plan.model}: models.toml may not set the variable {name!r}", "take it out of its env")
        if unusable(str(value)):
            raise InputError(f"{plan.model}: the variable {name} holds {unusable(str(value))}", "mend models.toml")
    own = {} if plan.nodes > 1 else {"VLLM_HOST_IP": "127.0.0.1"}
    return own | dict(plan.env)


def check_raw(args: Iterable[str]) -> None:
    """Raises InputError for a raw argument that pi owns or that would open the server.

    Looked at as vLLM's parser reads them: `--a_b=1` and `--a-b 1` are one, `--a.b` sets a part of `--a`, and
    a beginning such as `--mid` stands for `--middleware`. JSON values are looked into.
    """
    words = list(args)
    for position, word in enumerate(words):
        if unusable(word):
            raise InputError(f"an argument of --vllm holds {unusable(word)}", "give each argument as one word of text")
        _check_json(word if word.startswith("{") else word.partition("=")[2])
        name = option(word)
        if name is None:
            continue
        for part in word.partition("=")[0].split(".")[1:]:
            _check_key(part, word.partition("=")[2])
        if not name.startswith("--") and name not in SHORT:
            raise InputError(f"--vllm may not contain {name[:40]}", "use the long form of the argument")
        for refused, reason in (OWNED | OPENING).items():
            if len(name) > 2 and refused.startswith(name):
                raise InputError(f"--vllm may not contain {name}: {reason}")
        value = word.partition("=")[2] or (words[position + 1] if position + 1 < len(words) else "")
        if "--distributed-executor-backend".startswith(name) and len(name) > 2 and value.lower() == "ray":
            raise InputError(f"--vllm may not contain {name} ray: {RAY}")


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
        raise InputError(f"--vllm may not contain {key} inside JSON: {reason}")
    if name == "--distributed-executor-backend" and value.lower() == "ray":
        raise InputError(f"--vllm may not contain {key} inside JSON: {RAY}")


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


def option(word: str) -> str | None:
    """The option that a word names, as vLLM spells it, without its value; None where the word is a value."""
    if word.startswith("--") and len(word) > 2:
        return "--" + re.split(r"[=.]", word[2:])[0].replace("_", "-")
    if re.match(r"-[A-Za-z]", word):
        if re.match(r"-O=?-", word):  # vLLM would take what follows for an option of its own
            return word
        return "-O" if word.startswith("-O") else re.split(r"[=.]", word)[0]
    return None


def value_of(args: Iterable[str], name: str) -> str | None:
    """The last value given for an option in any of its spellings; None when it is not given."""
    words, found = list(args), None
    for position, word in enumerate(words):
        given = option(word)
        if given is None or SHORT.get(given, given) != name:
            continue
        following = words[position + 1] if position + 1 < len(words) else None
        found = word.partition("=")[2] if "=" in word else following
    return found


def parse_context(text: str) -> int:
    """Tokens: "32k" and "32K" are 32768, "1M" is 1048576, "40960" itself. Raises InputError."""
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*([kKmM]?)\s*", text, re.ASCII)
    tokens = float(found[1]) * {"": 1, "k": 1024, "m": 1024**2}[found[2].lower()] if found else 0
    if not found or tokens != int(tokens) or not 1 <= tokens <= MAX_CONTEXT:
        raise InputError(f"--context {text!r} is no number of tokens", "say 32k, 128k or 40960")
    if tokens < FEWEST_TOKENS:
        raise InputError(f"--context {text!r} is {tokens:.0f} tokens, too few for an answer", "32k is 32768 tokens")
    return int(tokens)


def parse_memory(text: str) -> float:
    """A share of each GPU's memory: "50%", "50" and "0.5" are 0.5. Raises InputError outside 1 to 95 %."""
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,4})?|\.\d{1,4})\s*(%?)\s*", text, re.ASCII)
    number = float(found[1]) if found else -1.0
    share = number / 100 if found and (found[2] or number > 1) else number
    if not 0.01 <= share <= 0.95:
        raise InputError(f"--memory {text!r} is no share between 1% and 95%", "say 50%, 0.5 or 90%")
    return round(share, 4)


NIGHTLY = "nightly"
"""The floor of a model that no release of vLLM serves yet."""


def too_old(version: str | None, floor: str | None) -> bool:
    """Whether a version of vLLM is below a floor; where either is unknown it is not."""
    if not version or not floor:
        return False
    if floor == NIGHTLY:
        return not is_nightly(version)
    return version_numbers(version) < version_numbers(floor)


def is_nightly(version: str) -> bool:
    """Whether a version of vLLM is that of a build between releases, such as "0.33.1.dev12+g1a2b3c4"."""
    return ".dev" in version


def latest(floors: Iterable[str | None]) -> str | None:
    """The highest of some floors; None where there is none."""
    known = (floor for floor in floors if floor)
    return max(known, key=lambda floor: (floor == NIGHTLY, version_numbers(floor)), default=None)


@lru_cache(maxsize=256)
def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: "0.32.0+cpu" is (0, 32, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
