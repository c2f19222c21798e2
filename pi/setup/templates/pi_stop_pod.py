"""Stop the pod, or run the user's command, after its last model ended for lack of use: `pi_stop_pod.py WAY`.

WAY is "runpod", "vast" or "command" (`on_idle.sh` beside this file). The launcher of the model becomes it, with the
provider's own variables of the pod. It never deletes a pod. Any other model keeps the pod, and so does a program on a
GPU. What it does is in the model's log, and its last sentence in the file `pod_stop`, for `pi list`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

TRIES = 5

PAUSES_S = (10, 30, 60, 120)

STOPS_S = 180
"""Time in which a provider stops a pod after it agreed."""

COMMAND_S = 600

LOCK_S = 100
"""A start holds the pod's lock for at most 60 s."""

LONGEST = 200
"""Characters of an answer in a sentence."""

RUNPOD = "https://rest.runpod.io/v1/pods/%s/stop"
"""https://docs.runpod.io/api-reference/pods/POST/pods/podId/stop"""

VAST = "https://console.vast.ai/api/v0/instances/%s/"
"""https://docs.vast.ai/api-reference/instances/manage-instance"""

NAMES = {"runpod": "RunPod", "vast": "Vast.ai", "command": "the command of --on-idle"}


class Failed(Exception):
    """Why the pod was not stopped, as the rest of a sentence."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the key elsewhere."""

    def redirect_request(self, *words: Any) -> None:
        return None


def answer_of(method: str, address: str, key: str, body: bytes) -> str:
    """Return what a provider answers. Raises Failed."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(address, body, headers, method=method)  # noqa: S310 - one of two addresses
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi  # noqa: PLC0415 - the venv's certificates, if the system has none

        context.load_verify_locations(certifi.where())
    opener = urllib.request.build_opener(NoRedirect, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=30) as reply:
            return str(reply.read(65536).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        raise Failed(f"answered {error.code}{said(error.read(65536).decode('utf-8', 'replace'))}") from None
    except OSError as error:
        raise Failed(f"did not answer ({getattr(error, 'reason', error)})") from None


def said(text: str) -> str:
    """Return the message in a provider's answer, such as ": no such pod"; its keys differ."""
    with contextlib.suppress(ValueError):
        members = json.loads(text)
        found = [members.get(key) for key in ("msg", "message", "error", "detail")] if isinstance(members, dict) else []
        text = next((each for each in found if isinstance(each, str) and each), text)
    text = " ".join(text.split())
    return f": {text[:LONGEST]}" if text else ""


def stop_runpod() -> None:
    """Ask RunPod to stop this pod: its API, else runpodctl, which images of RunPod contain. Raises Failed."""
    pod, key = os.environ["RUNPOD_POD_ID"], os.environ["RUNPOD_API_KEY"]
    try:
        answer_of("POST", RUNPOD % pod, key, b"")
    except Failed:
        words = (["pod", "stop", pod], ["stop", "pod", pod])  # runpodctl 2 and 1
        if not any(is_done(["runpodctl", *each]) for each in words):
            raise


def is_done(words: list[str]) -> bool:
    if not shutil.which(words[0]):
        return False
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def stop_vast() -> None:
    """Ask Vast.ai to stop this instance. Raises Failed."""
    instance, key = os.environ["CONTAINER_ID"], os.environ["CONTAINER_API_KEY"]
    answer = answer_of("PUT", VAST % instance, key, b'{"state": "stopped"}')
    try:
        is_stopped = json.loads(answer).get("success") is True
    except (ValueError, AttributeError):
        is_stopped = False
    if not is_stopped:
        raise Failed(f"refused{said(answer)}")


def run_command() -> None:
    """Run the user's command. Raises Failed if it does not end with 0."""
    words = ["bash", str(HERE / "on_idle.sh")]
    try:
        code = subprocess.run(words, stdin=subprocess.DEVNULL, timeout=COMMAND_S).returncode
    except subprocess.TimeoutExpired:
        raise Failed(f"did not end within {COMMAND_S} s") from None
    if code:
        raise Failed(f"ended with exit code {code}")


def is_wanted() -> bool:
    """Return whether the model is still the one that ended for lack of use: nobody stopped or started it since."""
    return (HERE / "idle").exists() and not os.path.lexists(HERE / "stopped")


def keeps() -> str | None:
    """Return the model for which the pod stays, or None."""
    for folder in HERE.parent.iterdir():
        record = record_of(folder)
        started = record.get("owner_started")
        if folder != HERE and record.get("status") == "starting" and started and started_of(record["owner"]) == started:
            return folder.name
    return next(filter(None, map(model_of, Path("/proc").iterdir())), None)


def model_of(process: Path) -> str | None:
    """Return the name of the model or download that a process of this home belongs to, or None."""
    try:
        environ = (process / "environ").read_bytes().split(b"\0") if process.name.isdigit() else []
        is_zombie = bool(environ) and (process / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return None
    instance = next(
        (entry[12:].decode("utf-8", "replace") for entry in environ if entry.startswith(b"PI_INSTANCE=")), ""
    )
    if not instance or is_zombie or f"HOME={os.environ['HOME']}".encode() not in environ:
        return None
    owners = (folder.name for folder in HERE.parent.iterdir() if record_of(folder).get("instance") == instance)
    return next(owners, f"pid {process.name}")


def record_of(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "record.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def started_of(pid: Any) -> int | None:
    """Return the start time of a living process in ticks (proc(5): /proc/PID/stat field 22)."""
    try:
        return int(Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, TypeError):
        return None


def gpu_users() -> list[str]:
    """Return the processes that compute on the pod's GPUs."""
    words = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^\s*([0-9]+)\s*$", listed, re.MULTILINE)


@contextlib.contextmanager
def locked(pace: float) -> Iterator[None]:
    """Hold the pod's lock, under which models start. Raises Failed if others hold it for long."""
    descriptor = os.open(HERE.parent.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_S * pace
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Failed("was not asked: a call of pi holds the pod's lock") from None
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


class Ended(Exception):
    """The pod stays for this reason; empty if the model was stopped or started since."""


def attempt(way: str, act: Callable[[], None], pace: float) -> None:
    """Stop the pod unless something keeps it. Raises Ended if it has to stay, Failed to try again."""
    with locked(pace):
        if not is_wanted():
            raise Ended("")
        name = keeps()
        if name:
            raise Ended(f"the pod stays: {name} is on it")
        users = gpu_users()
        if users:
            raise Failed(f"was not asked: another program uses a GPU (pid {', '.join(users[:5])})")
        if way != "command":
            act()
    if way == "command":
        act()  # it may take long, and others may start models


def note(text: str) -> None:
    """Print a sentence into the model's log, and keep it for `pi list`."""
    text = "".join(char if char.isprintable() else " " for char in text)
    for name in ("RUNPOD_API_KEY", "CONTAINER_API_KEY"):
        text = text.replace(os.environ.get(name) or "\0", "***")
    print(f"pi: {text}", flush=True)
    if is_wanted():
        with contextlib.suppress(OSError):
            (HERE / "pod_stop.new").write_text(text, encoding="utf-8")
            (HERE / "pod_stop.new").replace(HERE / "pod_stop")


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.fork():
        os._exit(0)
    os.setsid()  # no process of the model any more
    os.umask(0o077)
    way, pace = sys.argv[1], float(os.environ.get("PI_TEST_PACE") or 1)
    act = {"runpod": stop_runpod, "vast": stop_vast, "command": run_command}[way]
    problem = ""
    for number in range(1, TRIES + 1):
        try:
            attempt(way, act, pace)
            if way == "command":
                return note("the command of --on-idle has ended with 0")
            note(f"{NAMES[way]} has agreed to stop the pod")
            time.sleep(STOPS_S * pace)
            raise Failed(f"agreed, but the pod still runs after {STOPS_S} s")
        except Ended as reason:
            return note(str(reason)) if str(reason) else None
        except Failed as failed:
            problem = f"{NAMES[way]} {failed}"
        except Exception as error:  # whatever it is, the user has to know that the pod bills
            problem = f"{NAMES[way]} was not asked: {type(error).__name__}: {error}"
        if number < TRIES:
            note(f"the pod is not stopped yet: {problem}; try {number} of {TRIES}")
            time.sleep(PAUSES_S[number - 1] * pace)
    note(f"the pod still runs and bills: {problem}; pi has given up after {TRIES} tries")


if __name__ == "__main__":
    main()
