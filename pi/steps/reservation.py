"""The entry of a model that is starting."""

from __future__ import annotations

from pi import screen
from pi.errors import HostKeyError, Interrupted, LeftRunning, OutputError, PiError, UnprovenError, UnreachableError
from pi.planning.types import LaunchPlan
from pi.pods.types import Deployment, Owner, Pod
from pi.steps.reconcile import forget, remember


class Reservation:
    """An entry of status `starting` in pods.json, made before the pod is told to start.

    It is taken back when the start fails with proof that nothing is left, and stays when the pod may still be
    at work: `pi list` settles it then.
    """

    def __init__(self, place: Pod, private: bool) -> None:
        self._place, self._private = place, private
        self._name = ""

    @property
    def made(self) -> bool:
        return bool(self._name)

    def make(self, plan: LaunchPlan) -> LaunchPlan:
        remember(
            self._place,
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
            ),
        )
        self._name = plan.name
        return plan

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.made and isinstance(error, PiError) and not isinstance(error, MAY_GO_ON):
            try:
                forget(self._place, {self._name})
            except PiError as refusal:
                screen.note(f"{self._name} did not start and stays in pods.json, until pi list clears it: {refusal}")
        if isinstance(error, LeftRunning) and self.made:
            error.hint = f"pi list shows when {self._name} is ready; pi stop {self._name} ends it"
        elif isinstance(error, Interrupted) and self.made:
            error.hint = f"{self._name} is not running; what was downloaded stays cached"


MAY_GO_ON = (UnreachableError, UnprovenError, HostKeyError, LeftRunning, OutputError)
"""After these the pod may still be at work."""
