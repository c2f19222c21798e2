"""What a pod does when its last model has ended for lack of use: stop itself, or run the user's command."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from pi import redaction, screen
from pi.calls.start import STOP_POD, Upkeep
from pi.errors import InputError
from pi.pods.types import KEEP_POD, Pod, Provider
from pi.text import one_line

LONGEST = 2000
"""Characters of a command, which goes into pods.json."""

STOPS = {
    "runpod": "POST https://rest.runpod.io/v1/pods/{id}/stop with its RUNPOD_API_KEY, else runpodctl",
    "vast": 'PUT https://console.vast.ai/api/v0/instances/{id}/ {{"state": "stopped"}} with its CONTAINER_API_KEY',
}
"""What the pod calls; `pi_stop_pod.py` has the same addresses."""

AFTERWARDS = {
    "runpod": "RunPod goes on billing for the volume of a stopped pod, and deletes what is outside of the volume",
    "vast": "Vast.ai goes on billing for the disk of a stopped instance, and may give its GPU to others",
    "command": "pi does not know what the machine costs after your command",
}


def parse(text: str) -> str:
    """Return the value of `--on-idle`. Raises InputError if it is neither a known word nor a command."""
    value = text.strip()
    if value in (STOP_POD, KEEP_POD):
        return value
    is_command = " " in value or "/" in value
    if not is_command or not value.isprintable() or len(value) > LONGEST:
        close = get_close_matches(value, (STOP_POD, KEEP_POD), 1)
        hint = f"did you mean {close[0]}?" if close else 'use stop-pod, keep-pod or a command, such as "sudo poweroff"'
        raise InputError("on-idle-invalid", f"invalid --on-idle {one_line(text, 80)!r}", hint)
    if redaction.redacted(value) != value:
        raise InputError(
            "on-idle-secret",
            "the command of --on-idle contains one of your keys, and pods.json would keep it",
            "put the command into a script on the pod, with mode 0700",
        )
    return value


def decided(upkeep: Upkeep, pod: Pod) -> Upkeep:
    """Return the upkeep with the pod's own setting, unless the start has another one."""
    wanted = (upkeep.on_idle or pod.on_idle) if upkeep.idle_s else None
    return replace(upkeep, on_idle=None if wanted == KEEP_POD else wanted)


def require_way(on_idle: str | None, provider: Provider | None, pod: str) -> None:
    """Raise InputError if a pod cannot stop itself."""
    if on_idle == STOP_POD and (provider is None or provider.name not in STOPS):
        raise InputError(
            "on-idle-no-provider",
            f"{pod} cannot stop itself: it has no credentials of RunPod (RUNPOD_POD_ID, RUNPOD_API_KEY) or Vast.ai"
            " (CONTAINER_ID, CONTAINER_API_KEY)",
            'name a command that ends the bill there: --on-idle "...", or use --on-idle keep-pod',
        )


def sentences(on_idle: str, provider: Provider | None) -> list[str]:
    """Say what happens when the last model has ended for lack of use, and what is billed then."""
    if on_idle == STOP_POD and provider:
        way, does = provider.name, f"calls {STOPS[provider.name].format(id=provider.id)}"
    else:
        way, does = "command", f"runs {on_idle}"
    return [f"if no other model is on it, the pod then {does}", AFTERWARDS[way]]


def describe(on_idle: str | None, provider: Provider | None, pod: str) -> None:
    """Print a pod's setting after its setup."""
    if on_idle and on_idle != KEEP_POD:
        first, second = sentences(on_idle, provider)
        screen.say(f"{pod}: after --stop-after-idle has ended a model: {first}")
        screen.say(f"  {second}")
