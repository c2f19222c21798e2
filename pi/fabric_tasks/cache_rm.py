"""`pi cache rm`: delete a model or compiled code from a pod's disk."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pi import screen
from pi.calls.cache import read_cache, remove_cached
from pi.calls.call import progress_to
from pi.errors import InputError
from pi.fabric_tasks.flags import operand, switch
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.pods import changes
from pi.steps import consent, where


@dataclass(frozen=True)
class RemoveCachedOptions(PodOptions):
    model: str = operand("MODEL", "a model or compiled code that pi cache lists", required=True, completes="model")
    yes: bool = switch("do not ask", short="-y")


@verb(RemoveCachedOptions, name="rm", examples=("pi cache rm Qwen/Qwen3-8B", "pi cache rm Qwen/Qwen3-8B -y"))
def remove(c: Any, options: RemoveCachedOptions) -> None:
    """Delete a model or compiled code from the pod's disk, unless it is in use or being fetched."""
    with where.targeted(c, options.pod) as (pod, connection):
        if not options.yes:
            _require_consent(pod.name, options.model, read_cache(connection).sizes)
        with changes.change("cache rm", f"{pod.name}/{options.model}"), screen.progress() as line:
            gone = remove_cached(
                connection,
                options.model,
                progress_to(line.show),
            )
    screen.say(f"deleted {gone.name} from {pod.name}: {screen.gigabytes(gone.size_bytes)}")


def _require_consent(pod: str, model: str, sizes: dict[str, int]) -> None:
    """Raise InputError if the model is not there, or if the user does not agree."""
    if model not in sizes:
        close = "".join(f"did you mean {each}? " for each in get_close_matches(model, sizes, 1))
        hint = f"{close}pi cache lists what the pod has"
        raise InputError("not-cached", f"{model} is not in the cache of {pod}", hint)
    size = screen.gigabytes(sizes[model])
    consent.require(
        f"delete {model} ({size}) from {pod}?",
        InputError("cache-rm-unconfirmed", f"this deletes {model} ({size}) from {pod}", "add -y to delete it"),
        InputError("cache-rm-unconfirmed", "deleted nothing: you did not agree"),
    )
