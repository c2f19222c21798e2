"""Reserve a name, port and GPUs in pods.json while a model starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pi import screen
from pi.errors import (
    HostKeyError,
    Interrupted,
    LeftRunning,
    OutputError,
    PiError,
    Unconfirmed,
    UnprovenError,
    UnreachableError,
)
from pi.planning.types import LaunchPlan
from pi.pods import state
from pi.pods.types import Deployment, Owner, Pod, Span, State
from pi.steps import where
from pi.steps.reconcile import forget, remember


class Reservation:
    """An entry with status `starting` in pods.json, made before the pod starts the model.

    It is removed if the start fails and nothing is left on the pod. If the pod may still be working, it stays
    and `pi list` settles it.
    """

    def __init__(
        self, pod: Pod, private: bool, options: Mapping[str, Any], replica_of: str = "", span: Span | None = None
    ) -> None:
        self._pod, self._private, self._options, self._replica_of = pod, private, dict(options), replica_of
        self._span = span
        self._name = ""

    def hand_over(self) -> None:
        """Leave the rest of the start to the pod: no pi on this machine owns it any more."""

        def edit(before: State) -> State:
            pod = before.pods.get(self._pod.name)
            entry = pod.models.get(self._name) if pod else None
            if pod and entry and entry.status == "starting":
                return before.with_pod(pod.with_model(replace(entry, owner=None)))
            return before

        state.change(edit)

    def make(self, plan: LaunchPlan) -> LaunchPlan:
        """Save the reservation and return the plan."""
        remember(
            self._pod,
            Deployment(
                name=plan.name,
                model=plan.model,
                port=plan.port,
                gpus=plan.gpus,
                pid=0,
                status="starting",
                memory_share=plan.memory_share,
                owner=Owner.this(),
                private=self._private,
                adapters=plan.adapters,
                options=self._options,
                replica_of=self._replica_of,
                span=self._span,
            ),
        )
        self._name = plan.name
        return plan

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._name:
            return
        if isinstance(error, PiError) and not isinstance(error, MAY_CONTINUE):
            self._remove()
        if isinstance(error, LeftRunning):
            flag = where.flag_for(self._pod.name)
            error.hint = f"pi list{flag} shows when {self._name} is ready; pi stop {self._name}{flag} stops it"
        elif isinstance(error, Interrupted) and not isinstance(error, Unconfirmed):
            error.hint = f"{self._name} is not running; its downloads stay cached"

    def _remove(self) -> None:
        try:
            forget(self._pod, {self._name})
        except PiError as error:
            screen.note(f"{self._name} did not start but stays in pods.json until pi list removes it: {error}")


MAY_CONTINUE = (UnreachableError, UnprovenError, HostKeyError, LeftRunning, Unconfirmed, OutputError)
"""After these errors the pod may still be working, or have ended its work with success."""
