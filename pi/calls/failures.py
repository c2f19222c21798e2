"""Failures that a pod reports, as pi's errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pi.calls.events import Failed, processes_of
from pi.calls.validation import checked
from pi.errors import BusyError, InputError, NotReadyError, PiError, RemoteError, UnprovenError, UnreachableError
from pi.on_pod.events import (
    BenchDetail,
    DownloadDetail,
    FailureKind,
    FaultDetail,
    NameDetail,
    NoDetail,
    ServerDetail,
    SetupDetail,
)
from pi.text import one_line
from pi.vllm.hangs import STILL_S, place_of
from pi.vllm.log import explain
from pi.vllm.start_facts import StartFacts, read_facts
from pi.vllm.venvs import VENV, is_extra_venv


def error_of(failed: Failed) -> PiError:
    """Return the pod's failure as an error with its cause and a hint."""
    detail, error = ERRORS[failed.kind]
    return error(failed.kind.replace("_", "-"), failed.message, checked(detail, failed.detail, "detail"))


class SetupError(RemoteError):
    """A step of the setup failed; `tail` holds its last lines of output."""

    def __init__(self, step: str, message: str, tail: list[str]) -> None:
        cause, _, hint = message.partition(" -- ")
        super().__init__(
            "setup-failed", f"setup failed at step {step!r}: {cause}", hint or "fix it, then run the setup again"
        )
        self.step = step
        self.tail = tail


class ServerError(NotReadyError):
    """A server did not become ready; `detail` is what the pod sent about it, `flag` leads commands to the pod."""

    def __init__(
        self, id: str, message: str, detail: ServerDetail, facts: StartFacts | None = None, flag: str = ""
    ) -> None:
        self.kind, self.said, self.detail = id, message, detail
        failure_id, cause, hint = _explained(id, message, detail, facts or facts_of(detail))
        super().__init__(failure_id, cause, _with_log(hint, detail["name"], flag))

    def given(self, facts: StartFacts, flag: str = "") -> ServerError:
        """Return the same failure with the hint that follows from what the start was given."""
        facts = replace(facts, kernel=tuple(self.detail.get("kernel", ())))
        return ServerError(self.kind, self.said, self.detail, facts, flag)


def facts_of(detail: ServerDetail) -> StartFacts:
    """Return what the log says of the start, for a pi that did not plan it."""
    venv = detail.get("venv")
    known = venv if venv and is_extra_venv(venv) else VENV
    return replace(read_facts(detail.get("head") or detail["log"]), venv=known, kernel=tuple(detail.get("kernel", ())))


def _explained(id: str, message: str, detail: ServerDetail, facts: StartFacts) -> tuple[str, str, str | None]:
    """Return the id, cause and hint of a server that exited, or that pi stopped because it took too long."""
    if id != "timeout":
        failure = explain(detail["log"], detail.get("exit"), facts)
        return failure.id or id, failure.cause, failure.hint
    lines = detail["log"].strip().splitlines()
    last = one_line(lines[-1], 300) if lines else "nothing"
    place = place_of(detail["log"], processes_of(detail.get("processes", [])), facts)
    doing = f" while {place.doing}" if place else ""
    stands = detail.get("still_s", 0.0) >= STILL_S or (place is not None and place.id in NEVER_ENDS)
    hint = place.hint if place and stands else "to wait longer: --timeout SECONDS"
    return id, f"{message}{doing}; its log ends with: {last}", hint


NEVER_ENDS = ("stands-stopped", "stands-at-broadcast")
"""Places at which waiting longer never helps."""


def _plain(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message)


def _no_log(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message, "pi list --all-pods shows which pod a model is on")


def _busy(id: str, message: str, detail: NoDetail) -> PiError:
    return BusyError(id, message, "pi list shows what runs; pi stop NAME frees it")


def _locked(id: str, message: str, detail: NoDetail) -> PiError:
    return BusyError(id, message, "try again; if it stays, end that process on the pod: kill PID")


def _damaged(id: str, message: str, detail: NameDetail) -> PiError:
    return RemoteError(id, message, f"look at it on the pod, and delete it: rm -r ~/.pi/{detail['name']}")


def _not_private(id: str, message: str, detail: NoDetail) -> PiError:
    hint = "check who changed it; then delete it there and set the pod up again: pi pods setup NAME"
    return RemoteError(id, message, hint)


def _stopped(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message, "its downloads stay cached; to start it, repeat the command")


def _unreadable(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message, "replace that file on the pod, then try again")


def _bad_arguments(id: str, message: str, detail: NoDetail) -> PiError:
    return InputError(id, message, "fix --set, --env or --vllm; pi downloaded nothing")


def _key_taken(id: str, message: str, detail: NoDetail) -> PiError:
    return InputError(id, message, "choose another name, or end that key first: pi key revoke NAME")


def _unknown_key(id: str, message: str, detail: NoDetail) -> PiError:
    return InputError(id, message, "pi key list shows them")


def _not_closed(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message, "without it, others may reach ports that take any caller: --insecure-public")


def _lost(id: str, message: str, detail: NoDetail) -> PiError:
    return UnreachableError(id, message)


def _killed(id: str, message: str, detail: NoDetail) -> PiError:
    return UnprovenError(id, message, "pi list shows what is left; run the command again to continue")


def _not_ours(id: str, message: str, detail: ServerDetail) -> PiError:
    return NotReadyError(id, f"{message}; pi stopped {detail['name']}", _with_log(None, detail["name"]))


def _not_stopped(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message, "reboot the pod, or repeat the command later")


def _disk_full(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(
        id, message, 'free space, or keep models on another disk: pi pods setup NAME "ssh ..." --models-path PATH'
    )


def _storage(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(
        id, message, 'on the pod, as root: umount -l FOLDER; then mount it again: pi pods setup NAME --mount "..."'
    )


def _download_failed(id: str, message: str, detail: DownloadDetail) -> PiError:
    failure = explain(detail["log"], None)
    return RemoteError(failure.id or id, f"download failed: {failure.cause}", failure.hint)


def _stalled(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(
        id, message, "check the pod's line to the hub: pi doctor; files that are whole stay, so repeat the command"
    )


def _in_use(id: str, message: str, detail: NoDetail) -> PiError:
    return BusyError(id, message, "pi cache shows who uses it; pi stop NAME ends a model")


def _undeletable(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message, "delete it on the pod by hand, as the owner of these files")


def _not_cached(id: str, message: str, detail: NoDetail) -> PiError:
    return InputError(id, message, "pi cache lists what the pod has")


def _bench_failed(id: str, message: str, detail: BenchDetail) -> PiError:
    lines = detail["log"].strip().splitlines()
    return RemoteError(id, f"{message}: {one_line(lines[-1], 300)}" if lines else message)


def _not_running(id: str, message: str, detail: NoDetail) -> PiError:
    return NotReadyError(id, message, "see: pi list")


def _setup_failed(id: str, message: str, detail: SetupDetail) -> PiError:
    return SetupError(detail["step"], message, detail["tail"])


def _unexpected(id: str, message: str, detail: FaultDetail) -> PiError:
    place = f"pi's own program failed on the pod ({detail['at']})"
    return UnprovenError(id, f"{place}: {message}", "please report this; pi list shows what is left")


def _no_haproxy(id: str, message: str, detail: NoDetail) -> PiError:
    return RemoteError(id, message, "as root, on the pod: apt-get install -y haproxy; then repeat the command")


def _no_endpoint(id: str, message: str, detail: NameDetail) -> PiError:
    return RemoteError(id, message, f"pi list shows what runs; to start it again: pi restart {detail['name']}")


def _with_log(hint: str | None, name: str, flag: str = "") -> str:
    """Return the hint, and where vLLM's whole log is."""
    return (f"{hint}\n  " if hint else "") + f"the whole log: pi logs {name}{flag} (~/.vllm_logs/{name}.log on the pod)"


ERRORS: dict[FailureKind, tuple[type, Callable[[str, str, Any], PiError]]] = {
    "bad_arguments": (NoDetail, _bad_arguments),
    "damaged": (NameDetail, _damaged),
    "locked": (NoDetail, _locked),
    "name_taken": (NoDetail, _busy),
    "lost": (NoDetail, _lost),
    "killed": (NoDetail, _killed),
    "exited": (ServerDetail, ServerError),
    "launch_failed": (ServerDetail, ServerError),
    "timeout": (ServerDetail, ServerError),
    "not_ours": (ServerDetail, _not_ours),
    "not_private": (NoDetail, _not_private),
    "stopped": (NoDetail, _stopped),
    "unreadable": (NoDetail, _unreadable),
    "unkillable": (NoDetail, _not_stopped),
    "not_free": (NoDetail, _not_stopped),
    "disk_full": (NoDetail, _disk_full),
    "storage": (NoDetail, _storage),
    "bench_failed": (BenchDetail, _bench_failed),
    "not_running": (NoDetail, _not_running),
    "download_failed": (DownloadDetail, _download_failed),
    "stalled": (NoDetail, _stalled),
    "in_use": (NoDetail, _in_use),
    "not_cached": (NoDetail, _not_cached),
    "not_closed": (NoDetail, _not_closed),
    "undeletable": (NoDetail, _undeletable),
    "setup_failed": (SetupDetail, _setup_failed),
    "unexpected": (FaultDetail, _unexpected),
    "key_taken": (NoDetail, _key_taken),
    "unknown_key": (NoDetail, _unknown_key),
    "no_model": (NoDetail, _plain),
    "no_endpoint": (NameDetail, _no_endpoint),
    "no_haproxy": (NoDetail, _no_haproxy),
    "no_log": (NoDetail, _no_log),
}
"""The shape of each kind's detail, and the error that it becomes."""
