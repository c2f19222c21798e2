"""The shape of a deployment's present state, as `status` reports it (see `shapes`)."""

from __future__ import annotations

from typing import Any, Dict, List, TypedDict

from pi.on_pod.record_shapes import LiveRecord


class _StatusOptions(TypedDict, total=False):
    other_processes: List[str]
    objection: str
    log: str
    kernel: List[str]
    left: List[int]
    held_mib: Dict[str, int]
    asked_s_ago: float
    hung_s: float
    options: Dict[str, Any]
    pod_stop: str
    link: str
    unguarded: bool
    servers: Dict[str, str]


class DeploymentStatus(LiveRecord, _StatusOptions):
    """A deployment as `status` reports it.

    `other_processes` listen on its port too, `objection` says why an answering server is not this deployment,
    `left` are processes that outlived the server, and `held_mib` is the GPU memory of each of them by pid.
    `asked_s_ago` is the age of the last request that its guard admitted, to the minute; absent if there was none.
    `hung_s` is for how long its server hangs; absent if it does not.
    `options` are those of `pi start`, by the names of its flags; absent if an older pi started it.
    `pod_stop` says what became of the stop of the pod after its last model ended for lack of use.
    `link` says which peer of a rank was lost, so that its launcher ended it.
    `unguarded` means that the firewall's rules between the pods of a model are gone.
    `servers` are the replicas of an endpoint with the states that HAProxy gives them, such as UP or DOWN.
    """
