"""Name the pods that could take a model together, if it fits none alone."""

from __future__ import annotations

import shlex

from pi.errors import InputError
from pi.planning import spanning
from pi.planning.catalog import Catalog
from pi.planning.types import PodFacts, Request
from pi.pods import state
from pi.pods.types import Pod

TOO_SMALL = "does-not-fit"


def with_proposal(error: InputError, request: Request, pod: Pod, facts: PodFacts, catalog: Catalog) -> InputError:
    """Return a refusal with the command that starts the model over several known pods, if they could take it."""
    if error.id != TOO_SMALL:
        return error
    known = {each.name: each for each in state.load().pods.values() if not _is_same_machine(each, pod)}
    if pods := spanning.proposal(request, pod.name, facts, known, catalog):
        command = shlex.join(["pi", "start", str(request.model), "--name", request.name, "--across", pods])
        together = f"over {pods.replace(',', ' and ')} together it fits: {command}"
        error.hint = f"{error.hint}; {together}" if error.hint else together
    return error


def _is_same_machine(one: Pod, other: Pod) -> bool:
    return one.name == other.name or bool(one.boot and one.boot == other.boot)
