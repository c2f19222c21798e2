"""The command line and environment of `vllm serve` for a launch plan."""

from __future__ import annotations

from pi.errors import InputError
from pi.planning.types import LaunchPlan
from pi.planning.variables import NAME, RESERVED
from pi.vllm.raw_arguments import unusable


def command(plan: LaunchPlan, host: str, rank: int = 0, head: tuple[str, int] | None = None) -> tuple[str, ...]:
    """Return the words that start a model on `host`.

    With several pods, `rank` counts them from 0 and `head` is the address and port where they meet.
    """
    return (*_own_words(plan, host, rank, head), *plan.args.words)


def _own_words(plan: LaunchPlan, host: str, rank: int = 0, head: tuple[str, int] | None = None) -> list[str]:
    words = ["vllm", "serve", plan.model, "--served-model-name", *plan.served_names]
    if rank == 0:
        words += ["--host", host, "--port", str(plan.port)]
    if head is not None:
        words += ["--node-rank", str(rank), "--master-addr", head[0], "--master-port", str(head[1])]
    return [*words, "--headless"] if rank else words


def environment(plan: LaunchPlan) -> dict[str, str]:
    """Return the plan's variables; on a single pod, vLLM's own processes use the loopback address.

    Raises InputError for a variable that models.toml may not set.
    """
    for name, value in plan.env.items():
        if not NAME.fullmatch(name) or RESERVED.fullmatch(name):
            raise InputError(
                "catalog-variable-reserved",
                f"{plan.model}: models.toml may not set the variable {name!r}",
                "remove it from the model's env",
            )
        if unusable(str(value)):
            raise InputError(
                "catalog-variable-invalid",
                f"{plan.model}: the variable {name} contains {unusable(str(value))}",
                "fix models.toml",
            )
    own = {} if plan.nodes > 1 else {"VLLM_HOST_IP": "127.0.0.1"}
    return own | dict(plan.env)


BIND = "0.0.0.0"  # noqa: S104
"""Public servers: pi_guard.py requires the key on every route except /health."""

LOOPBACK = "127.0.0.1"
"""Private servers: reachable over SSH only."""

GUARD = ("--middleware", "pi_guard.Guard", "--disable-fastapi-docs")
"""Rejects callers without the key on every route except /health. Precedes the plan's words, which may contain `--`."""


def server(plan: LaunchPlan, private: bool = False) -> tuple[dict[str, str], list[str]]:
    """Return environment and words of the server, without the key. A private server listens on loopback only.

    The weights are on the pod before vLLM starts, so vLLM runs offline and without the Hugging Face token.
    """
    words = _own_words(plan, LOOPBACK if private else BIND)
    return {**environment(plan), "HF_HUB_OFFLINE": "1"}, [*words, *GUARD, *plan.args.words]
