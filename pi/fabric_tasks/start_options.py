"""The options of `pi start`, and the table that pods.json and pi.toml keep of them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from pi import redaction
from pi.calls.start import Upkeep
from pi.errors import InputError
from pi.fabric_tasks.flags import Flag, flag, flags_of, operand, options_from, repeated, switch
from pi.fabric_tasks.launch_options import MODEL, LaunchOptions
from pi.fabric_tasks.options import timeout_s_of
from pi.planning.types import Request
from pi.pods.types import check_name
from pi.steps import on_idle
from pi.steps.replicas import MOST
from pi.steps.starting import Across, Start

OF_ONE_CALL = ("pod", "name", "dry_run", "detach", "yes")
"""Options that say how one call goes, not how the model runs."""


@dataclass(frozen=True)
class StartOptions(LaunchOptions):
    model: str | None = operand("MODEL", MODEL, completes="model")
    name: str | None = flag("N", "name for the model; requests may use it or the model id", required=True)
    dry_run: bool = switch("show the command, memory and reasons; nothing changes")
    private: bool = switch("listen on the pod's loopback only: reachable over SSH, not from the network")
    restart: str | None = flag("on-failure[:N]", "start it again if it fails, at most N times (default: 3)")
    stop_after_idle: str | None = flag("30m", "stop it after this time without a request, such as 30m or 2h")
    no_watchdog: bool = switch("do not notice that it hangs: pi then sends no request of its own")
    on_idle: str | None = flag(
        "stop-pod|COMMAND",
        "then stop the pod if it has no other model, at RunPod or Vast.ai, or run COMMAND on it; keep-pod: do not",
        requires="--stop-after-idle",
    )
    replicas: str | None = flag("4", "this many equal servers behind one address; see pi scale", completes="gpus")
    across: str | None = flag(
        "P,P", "one model over these pods together, the first is its head; or its replicas", completes="pod"
    )
    address: tuple[str, ...] = repeated("POD=IP", "the address of a pod of --across for the others")
    slow_network: bool = switch("allow a network between the pods that makes it slow", requires="--across")
    insecure_public: bool = switch("allow that others reach ports between the pods", requires="--across")
    yes: bool = switch("start over several pods without a question", short="-y")
    detach: bool = switch("return when the pod downloads or loads the model; see pi wait")
    timeout: str | None = flag("SECONDS", "time for vLLM to become ready after the download; then pi stops it")

    def named_request(self) -> Request:
        """Return the planner's request. Raises InputError if a value is missing or cannot be used."""
        if self.model is None:
            raise InputError(
                "model-missing", "which model?", "pi start MODEL --name NAME; pi models lists those that pi knows"
            )
        if self.name is None:
            raise InputError("name-missing", "--name is missing", f"pi start {self.model} --name NAME")
        return replace(self.request(self.model, self.name), replicas=self._replicas())

    def start(self) -> Start:
        """Return the start that these options describe. Raises InputError."""
        if self.on_idle and not self.stop_after_idle:
            raise InputError("flag-requires", "--on-idle requires --stop-after-idle", "add --stop-after-idle 30m")
        then = on_idle.parse(self.on_idle) if self.on_idle else None
        across = self._across()
        upkeep = Upkeep(restarts_of(self.restart), idle_s_of(self.stop_after_idle), not self.no_watchdog, then)
        timeout_s = timeout_s_of(self.timeout)
        return Start(self.named_request(), self.private, upkeep, self.detach, timeout_s, self.table(), across=across)

    def _across(self) -> Across | None:
        """Return the pods of `--across`, or None without it. Raises InputError."""
        if self.across is None:
            if self.address:
                raise InputError("flag-requires", "--address requires --across", "add --across a,b")
            return None
        if self.replicas:
            return self._spread(self.across)
        others = {
            "--restart": (self.restart, "all pods start again together: pi restart NAME"),
            "--on-idle": (self.on_idle, "it would stop one pod of several"),
            "--vllm": (self.vllm, "pi chooses the split over pods; use --set for the rest"),
            "--for-throughput": (self.for_throughput, "all GPUs of the pods work for it anyway"),
        }
        for other, (value, why) in others.items():
            if value:
                raise InputError("flags-conflict", f"--across and {other} exclude each other", why)
        return across_of(self.across, self.address, self.slow_network, self.insecure_public)

    def _spread(self, pods: str) -> Across:
        """Return the pods over which replicas are spread. Raises InputError."""
        for other, is_given in (("--slow-network", self.slow_network), ("--insecure-public", self.insecure_public)):
            if is_given:
                why = "replicas exchange nothing"
                raise InputError("flags-conflict", f"--replicas and {other} exclude each other", why)
        return across_of(pods, self.address, False, False)

    def _replicas(self) -> int:
        """Return the number of `--replicas`, 0 without it. Raises InputError."""
        if self.replicas is None:
            return 0
        others = {
            "--detach": (self.detach, "pi adds one replica after the other"),
            "--stop-after-idle": (self.stop_after_idle, "each replica would stop alone"),
            "--for-throughput": (self.for_throughput, "one server would take all GPUs; use --gpus"),
        }
        for other, (value, why) in others.items():
            if value:
                raise InputError("flags-conflict", f"--replicas and {other} exclude each other", why)
        return replicas_of(self.replicas)

    def table(self) -> dict[str, Any]:
        """Return what describes the model, by the names of the flags; empty if a value contains a secret."""
        table: dict[str, Any] = {"model": self.model}
        for each in kept_flags():
            if each.is_given(self):
                value = getattr(self, each.attribute)
                table[key_of(each)] = list(value) if each.is_list else value
        text = repr(table)
        return table if redaction.redacted(text) == text else {}


def across_of(text: str, addresses: tuple[str, ...], slow_network: bool, insecure_public: bool) -> Across:
    """Return the pods of `--across` with the addresses of `--address`. Raises InputError."""
    pods = tuple(check_name(name.strip(), "pod") for name in text.split(","))
    if not 2 <= len(set(pods)) == len(pods) <= MOST_PODS:
        raise InputError("across-invalid", f"invalid --across {text!r}", f"name 2 to {MOST_PODS} pods, such as a,b")
    given = {}
    for word in addresses:
        pod, _, address = word.partition("=")
        if pod in given:
            raise InputError("address-twice", f"two --address for {pod}", "use one")
        try:
            given[pod] = str(ipaddress.ip_address("" if "%" in address else address))
        except ValueError:
            hint = "use the pod and its address, such as b=10.0.0.7"
            raise InputError("address-invalid", f"invalid --address {word!r}", hint) from None
        if pod not in pods:
            raise InputError("address-invalid", f"--address names {pod!r}, which --across does not", f"use {text}")
    return Across(pods, given, slow_network, insecure_public)


MOST_PODS = 16


def replicas_of(text: str) -> int:
    """Return a number of replicas. Raises InputError."""
    if not re.fullmatch(r"[1-9][0-9]?", text, re.ASCII) or int(text) > MOST:
        raise InputError("replicas-invalid", f"invalid number of replicas {text!r}", f"use a number from 1 to {MOST}")
    return int(text)


def restarts_of(text: str | None) -> int:
    """Return how often a launcher starts a failed server again. Raises InputError."""
    if text is None:
        return 0
    found = re.fullmatch(r"on-failure(?::([1-9][0-9]{0,2}))?", text, re.ASCII)
    if found is None:
        raise InputError("restart-invalid", f"invalid --restart {text!r}", "use on-failure or on-failure:5")
    return int(found[1] or RESTARTS)


def idle_s_of(text: str | None) -> int | None:
    """Return the seconds of `--stop-after-idle`, or None without a value. Raises InputError."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})(m|h)", text, re.ASCII)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not LEAST_IDLE_S <= seconds <= MOST_IDLE_S:
        raise InputError(
            "idle-invalid", f"invalid --stop-after-idle {text!r}", "use a time from 2m to 30 days, such as 30m or 2h"
        )
    return seconds


RESTARTS = 3

UNITS = {"m": 60, "h": 3600}

LEAST_IDLE_S, MOST_IDLE_S = 120, 30 * 86400
"""The guard notes a request at most once a minute, so a shorter time could end a model that is in use."""


def kept_flags() -> list[Flag]:
    """Return the flags that describe how a model runs."""
    return [each for each in flags_of(StartOptions) if each.attribute not in OF_ONE_CALL]


def key_of(flag: Flag) -> str:
    """Return a flag's key in a table, such as "text-only"."""
    return flag.name.removeprefix("--")


def options_of(name: str, table: Mapping[str, Any]) -> StartOptions:
    """Return the options that a table of pods.json describes. Raises InputError."""
    if found := mistakes(name, table):
        raise InputError(
            "options-invalid",
            f"the options of {name} in pods.json cannot be used: {found[0]}",
            f"start it by hand: pi stop {name}; pi start MODEL --name {name}",
        )
    return read_options(name, table)


def read_options(name: str, table: Mapping[str, Any]) -> StartOptions:
    """Return the options of a table without mistakes."""
    values = {each.attribute: table[key_of(each)] for each in kept_flags() if key_of(each) in table}
    words = {key: str(value) if type(value) is int else value for key, value in values.items()}
    return options_from(StartOptions, {**words, "model": table["model"], "name": name})


def describes(name: str, table: Mapping[str, Any], start: Start) -> bool:
    """Return whether a table means the same model as a start, perhaps in other words: 32k or 32768 tokens."""
    if mistakes(name, table):
        return False
    other = read_options(name, table).start()
    return replace(other, options={}, timeout_s=None) == replace(start, options={}, timeout_s=None)


def mistakes(name: str, table: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a table, each with its key and what to write."""
    flags = {key_of(each): each for each in kept_flags()}
    found = [] if "model" in table else ['model is missing; write model = "OWNER/NAME"']
    for key, value in table.items():
        if key == "model":
            found += [] if isinstance(value, str) else ['model: write text, such as model = "OWNER/NAME"']
        elif key not in flags:
            close = get_close_matches(key, ["model", *flags], 1)
            found.append(f"unknown key {key}; {f'did you mean {close[0]}?' if close else 'remove it'}")
        else:
            found += _wrong(flags[key], value)
    if found:
        return found
    try:
        read_options(name, table).start()
    except InputError as error:
        return [f"{error.message}; {error.hint}" if error.hint else error.message]
    return []


def _wrong(flag: Flag, value: Any) -> list[str]:
    key = key_of(flag)
    if flag.is_list:
        fits, example = isinstance(value, list) and all(isinstance(each, str) for each in value), '["..."]'
    elif flag.kind is bool:
        fits, example = isinstance(value, bool), "true"
    else:
        is_number = type(value) is int and key in EXAMPLES
        fits, example = isinstance(value, str) or is_number, EXAMPLES.get(key, f'"{flag.value}"')
    return [] if fits else [f"{key}: write {key} = {example}"]


EXAMPLES = {"gpus": "2", "timeout": "900", "replicas": "4"}
"""Values of keys that are numbers."""
