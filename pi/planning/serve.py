"""The command line and environment of `vllm serve` for a launch plan."""

from __future__ import annotations

from dataclasses import dataclass

from pi.errors import InputError
from pi.planning.types import LaunchPlan
from pi.planning.variables import NAME, RESERVED
from pi.vllm.ranks import variables
from pi.vllm.raw_arguments import unusable


@dataclass(frozen=True)
class Rank:
    """One of several pods that serve a model together.

    `number` counts them from the head, which is 0. `addresses` are those of all pods, `interface` is this pod's own,
    and `port` is where they meet on the head.
    """

    number: int
    addresses: tuple[str, ...]
    interface: str
    port: int


def command(plan: LaunchPlan, host: str, rank: Rank | None = None) -> tuple[str, ...]:
    """Return the words that start a model on `host`, or a part of it on one of several pods."""
    return (*_own_words(plan, host, rank), *plan.args.words)


def _own_words(plan: LaunchPlan, host: str, rank: Rank | None = None) -> list[str]:
    words = ["vllm", "serve", plan.model, "--served-model-name", *plan.served_names]
    if rank is None or rank.number == 0:
        words += ["--host", host, "--port", str(plan.port)]
    if rank is not None:
        meeting = ["--master-addr", rank.addresses[0], "--master-port", str(rank.port)]
        words += ["--node-rank", str(rank.number), *meeting, *(["--headless"] if rank.number else [])]
    return words


def environment(plan: LaunchPlan, rank: Rank | None = None) -> dict[str, str]:
    """Return the plan's variables, and those of the address for vLLM's own processes: loopback on a single pod.

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
    if rank is not None:
        own = variables(rank.addresses[rank.number], rank.interface)
    return own | dict(plan.env)


BIND = "0.0.0.0"  # noqa: S104
"""Public servers: pi_guard.py requires the key on every route except /health."""

LOOPBACK = "127.0.0.1"
"""Private servers: reachable over SSH only."""

GUARD = ("--middleware", "pi_guard.Guard", "--disable-fastapi-docs")
"""Rejects callers without the key on every route except /health. Precedes the plan's words, which may contain `--`."""


def server(plan: LaunchPlan, private: bool = False, rank: Rank | None = None) -> tuple[dict[str, str], list[str]]:
    """Return environment and words of the server, without the key. A private server listens on loopback only.

    The weights are on the pod before vLLM starts, so vLLM runs offline and without the Hugging Face token.
    Of several pods, only the head answers requests.
    """
    words, guard = _own_words(plan, LOOPBACK if private else BIND, rank), () if rank and rank.number else GUARD
    return {**environment(plan, rank), "HF_HUB_OFFLINE": "1"}, [*words, *guard, *plan.args.words]
