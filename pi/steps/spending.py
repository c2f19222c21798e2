"""What pods cost: hours and price since setup, and a reminder of priced pods that pi knows no use of."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.errors import InputError, PiError
from pi.pods import state
from pi.pods.types import Pod

if TYPE_CHECKING:
    from pi.calls.status import Status

BILLING = "keeps running (and billing) until you end it at the provider"

IDLE_H = 2
"""pi names a priced pod without a known request for this long."""

REMIND_EVERY_S = 3600

FILE = "spending.json"
"""File in pi's folder: when each priced pod was last used (seconds since 1970), and when pi last named idle ones."""

_PRICE = re.compile(r"[$€£]?([0-9]{1,9}(?:\.[0-9]{1,6})?)(?:/h(?:r|our)?)?", re.ASCII)


def parse_price(text: str) -> float:
    """Return the price of a pod per hour, such as "2.49" or "$2.49/hr". Raises InputError if it is not one."""
    match = _PRICE.fullmatch(text.strip())
    if not match:
        raise InputError("pod-price-invalid", f"invalid --price {text!r}", "use a price per hour such as 2.49")
    return float(match[1])


def per_hour(pod: Pod) -> float | None:
    """Return what a pod costs per hour: by `--price`, else by prices.toml; None if unknown.

    Raises InputError if prices.toml is invalid.
    """
    if pod.price is not None:
        return pod.price
    if not pod.gpus or not (config.config_dir() / "prices.toml").exists():
        return None
    from pi.steps import kept_prices  # noqa: PLC0415 - imports the planner's table of GPUs

    return kept_prices.of_gpus(pod.gpus)


def prices(pods: Mapping[str, Pod]) -> dict[str, float | None]:
    """Return what each pod costs per hour. A broken prices.toml costs a note."""
    try:
        return {name: per_hour(pod) for name, pod in pods.items()}
    except InputError as error:
        screen.note(f"ignoring your prices: {error.message}")
        return {name: pod.price for name, pod in pods.items()}


def hours(pod: Pod) -> float | None:
    """Return the hours since the pod's setup, or None if that time is unknown."""
    return None if pod.set_up_at is None else max(0.0, (time.time() - pod.set_up_at) / 3600)


def since_setup(pod: Pod, price: float | None) -> tuple[str, str]:
    """Return hours and cost since setup at a price per hour, for a table; "-" if unknown."""
    duration = hours(pod)
    shown = "-" if duration is None else f"{duration:.1f}"
    return shown, "-" if duration is None or price is None else f"{duration * price:.2f}"


def cost(pod: Pod) -> tuple[float | None, float | None]:
    """Return what a pod costs per hour, and since its setup; None if unknown."""
    price, duration = prices({pod.name: pod})[pod.name], hours(pod)
    return price, None if price is None or duration is None else round(price * duration, 2)


def still_bills(pod: Pod) -> str:
    """Say that a pod keeps billing, with its cost if that is known."""
    return f"{BILLING}{spent(pod)}"


def note_empty(names: Iterable[str]) -> None:
    """Print for each of these pods without a model that it keeps billing."""
    saved = state.load().pods
    for pod in [saved[name] for name in dict.fromkeys(names) if name in saved and not saved[name].models]:
        screen.note(f"no model is left on {pod.name}; the machine {still_bills(pod)}")


def spent(pod: Pod) -> str:
    """Return the cost of a pod as the end of a sentence, such as "; 4.98 since setup (2.49 per hour)"."""
    with suppress(PiError):
        duration, price = hours(pod), per_hour(pod)
        if duration is not None and price:
            return f"; {duration * price:.2f} since setup ({price:.2f} per hour)"
    return ""


@dataclass
class _Uses:
    """The content of the file. A damaged file is an empty one: it costs one reminder too many."""

    used: dict[str, float] = field(default_factory=dict)
    reminded: float = 0.0

    @classmethod
    def load(cls) -> _Uses:
        try:
            document = json.loads(_path().read_bytes())
            used = {str(key): _moment(value) for key, value in document["used"].items()}
            return cls(used, _moment(document["reminded"]))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return cls()

    def save(self) -> None:
        """Write the file. Ignore a failed write."""
        with suppress(OSError):
            fresh = _path().with_suffix(f".{os.getpid()}")
            try:
                fresh.write_text(json.dumps({"used": self.used, "reminded": self.reminded}), "utf-8")
                fresh.replace(_path())
            finally:
                fresh.unlink(missing_ok=True)


def _path() -> Path:
    return config.config_dir() / FILE


def _moment(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _key(pod: Pod) -> str:
    return pod.machine or pod.ssh


def note_use(pod: Pod, when: float | None = None) -> None:
    """Note that a pod was used, by default now. Pods without a price are not noted."""
    with suppress(PiError):
        if per_hour(pod):
            uses = _Uses.load()
            uses.used[_key(pod)] = max(uses.used.get(_key(pod), 0.0), time.time() if when is None else when)
            uses.save()


@contextmanager
def used(pod: Pod) -> Iterator[None]:
    """Note that the pod was used until the end of the block."""
    try:
        yield
    finally:
        note_use(pod)


def note_asked(pod: Pod, status: Status) -> None:
    """Save when a pod's models got their last request, by its guards."""
    ages = [found.asked_s_ago for found in status.found if found.asked_s_ago is not None]
    if ages:
        note_use(pod, time.time() - min(ages))


def remind(ask: bool = True) -> None:
    """Name the priced pods that seem idle on a terminal, at most once an hour. Never raises PiError or OSError.

    With `ask`, the pods are asked for their last request first: other clients' requests do not pass here.
    """
    if not screen.has_terminal():
        return
    with suppress(PiError, OSError):
        pods = _machines(state.load().pods.values())
        uses, now = _Uses.load(), time.time()
        if not pods or 0 <= now - uses.reminded < REMIND_EVERY_S:
            return
        idle = [pod for pod in pods if _idle(pod, uses, now)]
        if idle and ask:
            _ask(idle)
            uses = _Uses.load()
        lines = [line for pod in idle if (line := _idle(pod, uses, now))]
        if lines:
            uses.reminded = now
            uses.save()
        for line in lines:
            screen.note(line)


def _ask(pods: list[Pod]) -> None:
    """Note the last requests that the pods know of. Ctrl+C ends it."""
    from pi.steps import last_asked  # noqa: PLC0415 - imports Fabric

    with suppress(KeyboardInterrupt):
        for pod, when in last_asked.times(pods):
            note_use(pod, when)


def _machines(pods: Iterable[Pod]) -> list[Pod]:
    """Return the pods, one of each machine."""
    return list({pod.boot or pod.name: pod for pod in reversed(list(pods))}.values())[::-1]


def _idle(pod: Pod, uses: _Uses, now: float) -> str | None:
    """Describe a priced pod that has been idle for hours, or return None."""
    last = max(pod.set_up_at or 0.0, uses.used.get(_key(pod), 0.0))
    idle_h = (now - last) / 3600
    if not last or idle_h < IDLE_H or not per_hour(pod):
        return None
    return f"{pod.name}: no request known for {idle_h:.0f} h; the machine {still_bills(pod)}"
