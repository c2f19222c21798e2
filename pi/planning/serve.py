"""A launch plan as the words and the environment of `vllm serve`."""

from __future__ import annotations

import re

from pi.errors import InputError
from pi.planning.types import LaunchPlan
from pi.vllm.raw_arguments import unusable

RESERVED = re.compile(
    r"PATH|HOME|IFS|ENV|SHELLOPTS|BASH\w*|LD_\w*|PYTHON\w*|PI_\w*|HF_TOKEN|HF_HUB_OFFLINE|HUGGING_FACE_HUB_TOKEN|"
    r"VLLM_(API_KEY|HOST_IP|PORT|SERVER_DEV_MODE|ALLOW_RUNTIME_LORA_UPDATING|PLUGINS)"
)
"""Variables that an entry of a models.toml may not set: they are pi's, choose programs, or open the server."""


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
            raise InputError(
                "catalog-variable-reserved",
                f"{plan.model}: models.toml may not set the variable {name!r}",
                "take it out of its env",
            )
        if unusable(str(value)):
            raise InputError(
                "catalog-variable-invalid",
                f"{plan.model}: the variable {name} holds {unusable(str(value))}",
                "mend models.toml",
            )
    own = {} if plan.nodes > 1 else {"VLLM_HOST_IP": "127.0.0.1"}
    return own | dict(plan.env)


BIND = "0.0.0.0"  # noqa: S104
"""Where servers listen: reachable from outside, with every route but /health behind the key (pi_guard.py)."""

LOOPBACK = "127.0.0.1"
"""Where private servers listen: reachable over SSH alone."""

GUARD = ("--middleware", "pi_guard.Guard", "--disable-fastapi-docs")
"""Closes every route but /health to callers without the key; before the plan's own words, which may hold a `--`."""


def server(plan: LaunchPlan, private: bool = False) -> tuple[dict[str, str], list[str]]:
    """Environment and words of the server that a plan starts, the key aside; a private one binds loopback only.

    The weights are on the pod before vLLM starts, so it runs with the hub switched off and without the token.
    """
    argv = command(plan, LOOPBACK if private else BIND)
    words = argv[: len(argv) - len(plan.args)]
    return {**environment(plan), "HF_HUB_OFFLINE": "1"}, [*words, *GUARD, *plan.args]
