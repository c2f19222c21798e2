"""Shapes of the checks of `pi doctor` that no other verb makes (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import List, Literal, TypedDict

TokenState = Literal["none", "accepted", "rejected", "unknown"]
"""What the hub says of the pod's token; "unknown" if it did not answer."""


class DoctorAnswer(TypedDict):
    """`unfinished_bytes` are files of downloads that did not end and that nobody continues now.

    `abandoned` are the models that they belong to.
    """

    token: TokenState
    unfinished_bytes: int
    abandoned: List[str]
