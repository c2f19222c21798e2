"""What a pod's nvidia-smi says, as GPUs."""

from __future__ import annotations

from pi.on_pod.shapes import NvidiaSmi
from pi.pods import gpus
from pi.pods.gpus import Gpu
from pi.text import one_line


def read_gpus(answer: NvidiaSmi) -> tuple[list[Gpu], tuple[str, ...]]:
    """Return the GPUs that nvidia-smi described, and its other lines or why it did not answer."""
    cards, unread = gpus.parse(answer["text"])
    if not answer["text"].strip() and answer["error"]:
        unread = [one_line(answer["error"])]
    return cards, tuple(unread)
