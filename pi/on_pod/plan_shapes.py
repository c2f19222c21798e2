"""Shapes of the request and the answer of `plan` (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import TypedDict

from pi.on_pod.shapes import ArgumentCheck


class ReadRequest(TypedDict):
    """Arguments for the vLLM in a venv; `instance` marks its processes."""

    venv: str
    instance: str
    check: ArgumentCheck


class ReadAnswer(TypedDict):
    """The vLLM rejected nothing; notes came as events. `venv` is where it is."""

    venv: str
