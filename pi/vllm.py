"""A plan as the words and the environment of `vllm serve`, and the arguments that pi keeps for itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pi.errors import InputError

if TYPE_CHECKING:
    from pi.planner import LaunchPlan

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
    "--data-parallel-address": "processes that trust each other would listen on the network",
    "--data-parallel-rpc-port": "processes that trust each other would listen on the network",
    "--data-parallel-start-rank": "pi places the processes",
    "--data-parallel-supervisor-port": "pi places the processes",
    "--data-parallel-backend": "it would start Ray, whose job API asks for no password",
    "--kv-transfer-config": "processes that trust each other would listen on the network",
}
"""Arguments that pi sets or that break what it promises, each with the reason that a user is told."""

OPENING = {
    "--root-path": "it moves routes out from under the API key",
    "--middleware": "it would run other code in front of the key check",
    "--grpc": "it opens a second door that has no API key",
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

MAX_CONTEXT = 100_000_000


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
    """Variables of the plan, and the loopback address for vLLM's own processes where one pod holds them all."""
    own = {} if plan.nodes > 1 else {"VLLM_HOST_IP": "127.0.0.1"}
    return own | dict(plan.env)


def check_raw(args: Iterable[str]) -> None:
    """Raises InputError for a raw argument that pi owns or that would open the server.

    Looked at as vLLM's parser reads them: `--a_b=1` and `--a-b 1` are one, `--a.b` sets a part of `--a`, and
    a beginning such as `--mid` stands for `--middleware`.
    """
    words = list(args)
    for position, word in enumerate(words):
        if "\0" in word or "\n" in word:
            raise InputError("an argument of --vllm holds a line break", "give each argument as one word")
        name = option(word)
        if name is None:
            continue
        if not name.startswith("--") and name not in SHORT:
            raise InputError(f"--vllm may not contain {name}", "use the long form of the argument")
        for refused, reason in (OWNED | OPENING).items():
            if len(name) > 2 and refused.startswith(name):
                raise InputError(f"--vllm may not contain {name}: {reason}")
        value = word.partition("=")[2] or (words[position + 1] if position + 1 < len(words) else "")
        if "--distributed-executor-backend".startswith(name) and len(name) > 2 and value == "ray":
            raise InputError(f"--vllm may not contain {name} ray: Ray's job API asks for no password")


def option(word: str) -> str | None:
    """The option that a word names, as vLLM spells it, without its value; None where the word is a value."""
    if word.startswith("--") and len(word) > 2:
        return "--" + re.split(r"[=.]", word[2:])[0].replace("_", "-")
    if re.match(r"-[A-Za-z]", word):
        return "-O" if word.startswith("-O") else word.partition("=")[0]
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
    return int(tokens)


def parse_memory(text: str) -> float:
    """A share of each GPU's memory: "50%", "50" and "0.5" are 0.5. Raises InputError outside 1 to 95 %."""
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,4})?|\.\d{1,4})\s*(%?)\s*", text, re.ASCII)
    number = float(found[1]) if found else -1.0
    share = number / 100 if found and (found[2] or number > 1) else number
    if not 0.01 <= share <= 0.95:
        raise InputError(f"--memory {text!r} is no share between 1% and 95%", "say 50%, 0.5 or 90%")
    return round(share, 4)


def too_old(version: str | None, floor: str | None) -> bool:
    """Whether a version of vLLM is below a floor; where either is unknown it is not."""
    return bool(version and floor and version_numbers(version) < version_numbers(floor))


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: "0.32.0+cpu" is (0, 32, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
