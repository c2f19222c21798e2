"""Shapes of the request and the answer of `wait` (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import Optional, TypedDict

from pi.on_pod.status_shapes import DeploymentStatus


class WaitRequest(TypedDict):
    """Without `timeout_s`, wait until the deployment no longer starts."""

    name: str
    timeout_s: Optional[int]


class WaitAnswer(TypedDict):
    """The deployment that was waited for; None if the pod does not know it.

    `last_change` is then its last line of the audit log, and `log` the end of its log.
    """

    deployment: Optional[DeploymentStatus]
    last_change: str
    log: str
