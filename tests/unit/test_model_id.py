"""Models as users type them: ids, addresses on the hub, revisions, checkpoints, paths."""

from __future__ import annotations

import pytest

from pi.errors import InputError
from pi.fabric_tasks.launch_options import LaunchOptions
from pi.model_id import parse_typed

UNDERSTOOD = {
    "Qwen/Qwen3-8B": ("Qwen/Qwen3-8B", None),
    "gpt2": ("gpt2", None),
    "https://huggingface.co/Qwen/Qwen3-8B": ("Qwen/Qwen3-8B", None),
    "https://huggingface.co/Qwen/Qwen3-8B/": ("Qwen/Qwen3-8B", None),
    "https://huggingface.co/Qwen/Qwen3-8B/tree/main": ("Qwen/Qwen3-8B", None),
    "https://huggingface.co/Qwen/Qwen3-8B/blob/main/config.json": ("Qwen/Qwen3-8B", None),
    "https://huggingface.co/Qwen/Qwen3-8B?library=vllm#x": ("Qwen/Qwen3-8B", None),
    "HTTPS://HuggingFace.co/Qwen/Qwen3-8B": ("Qwen/Qwen3-8B", None),
    "hf.co/Qwen/Qwen3-8B": ("Qwen/Qwen3-8B", None),
    "hf://Qwen/Qwen3-8B": ("Qwen/Qwen3-8B", None),
    "Qwen/Qwen3-8B@main": ("Qwen/Qwen3-8B", None),
    "Qwen/Qwen3-8B:fp8": ("Qwen/Qwen3-8B", "fp8"),
    "Qwen/Qwen3-8B:fp8@main": ("Qwen/Qwen3-8B", "fp8"),
    "hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M": ("unsloth/Qwen3-8B-GGUF", "Q4_K_M"),
    "/mnt/models/a:b@c": ("/mnt/models/a:b@c", None),
    "~/m": ("~/m", None),
}


@pytest.mark.parametrize(("text", "typed"), UNDERSTOOD.items(), ids=UNDERSTOOD)
def test_typed_model_is_understood(text: str, typed: tuple[str, str | None]) -> None:
    assert parse_typed(text) == typed


REJECTED = {
    "https://huggingface.co/Qwen/Qwen3-8B/tree/v1.0": "revision-not-served",
    "Qwen/Qwen3-8B@0a1b2c": "revision-not-served",
    "https://huggingface.co/datasets/a/b": "model-id-invalid",
    "https://huggingface.co/Qwen": "model-id-invalid",
    "https://huggingface.co/Qwen/Qwen3-8B/discussions/1": "model-id-invalid",
    "https://modelscope.cn/models/Qwen/Qwen3-8B": "model-id-invalid",
    "ftp://huggingface.co/Qwen/Qwen3-8B": "model-id-invalid",
    "a/b:": "model-id-invalid",
    "a/b@": "model-id-invalid",
    "a/b:c d": "model-id-invalid",
    "a/b:$(id)": "model-id-invalid",
    "a/b/c": "model-id-invalid",
    "": "model-id-invalid",
    "\x1b[2Ja/b": "model-id-invalid",
}


@pytest.mark.parametrize(("text", "error_id"), REJECTED.items(), ids=map(repr, REJECTED))
def test_typed_model_is_rejected_in_one_line(text: str, error_id: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_typed(text)
    assert caught.value.id == error_id
    assert "\n" not in caught.value.render() and "\x1b" not in caught.value.render()


def test_checkpoint_after_a_colon_is_the_variant() -> None:
    assert LaunchOptions().request("Qwen/Qwen3-8B:fp8", "q").variant == "fp8"
    assert LaunchOptions(variant="FP8").request("Qwen/Qwen3-8B:fp8", "q").variant == "FP8"
    with pytest.raises(InputError) as caught:
        LaunchOptions(variant="awq").request("Qwen/Qwen3-8B:fp8", "q")
    assert caught.value.id == "flags-conflict"
