"""Mistakes of pasting get a line of their own before pi contacts a pod."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.errors import InputError
from pi.vllm import pasted, settings
from tests.rig.hostile import VALUES

WORDS = {
    "a whole command": ("vllm serve Qwen/Qwen3-8B --max-model-len 4096", "pasted-command", "remove it, and the model"),
    "serve alone": ("serve Qwen/Qwen3-8B -tp 2", "pasted-command", "begins with a command: serve Qwen/Qwen3-8B"),
    "a program with its path": ("/opt/venv/bin/vllm serve x", "pasted-command", "remove it"),
    "the server as a module": ("python3 -m vllm.entrypoints.openai.api_server --seed 1", "pasted-command", "remove"),
    "a container": ("docker run --gpus all vllm/vllm-openai --seed 1", "pasted-command", "remove it"),
    "a model": ("Qwen/Qwen3-8B --seed 1", "pasted-operand", "pi start MODEL names the model"),
    "a variable": ("VLLM_USE_V1=1 --seed 1", "pasted-variable", "use --env VLLM_USE_V1=1"),
    "a variable with blanks": ("'NCCL_DEBUG=a b' --seed 1", "pasted-variable", "use --env 'NCCL_DEBUG=a b'"),
    "an exported variable": ("export VLLM_USE_V1=1", "pasted-command", "remove it"),
    "an en dash": ("\u2013max-model-len 4096", "pasted-dash", "type --max-model-len"),
    "an em dash": ("--seed 1 \u2014max-model-len=4096", "pasted-dash", "type --max-model-len=4096"),
    "a hyphen and an en dash": ("-\u2013seed 1", "pasted-dash", "type --seed"),
    "a dash inside an option": ("--max\u2011model-len 4096", "pasted-dash", "type --max-model-len"),
    "JSON without quotes": ("--speculative-config {method:mtp}", "pasted-json", "--speculative-config '{\"key\""),
    "JSON that the shell took apart": ("--speculative-config method:mtp num:3", "pasted-json", "method:mtp num:3"),
    "JSON with single quotes inside": ("--hf-overrides \"{'a': 1}\"", "pasted-json", "double quotes inside"),
    "JSON in quotes that stayed": ("--hf-overrides \"'{}'\"", "pasted-json", "double quotes"),
    "JSON joined by an equals sign": ("--compilation-config={mode:3}", "pasted-json", "{mode:3}"),
    "JSON with escapes that stayed": (r"--compilation-config '{\"mode\": 3}'", "pasted-json", "single quotes"),
    "JSON of a short option": ("-cc {mode:3}", "pasted-json", "{mode:3}"),
    "curly quotes": ("--hf-overrides '{\u201ca\u201d: 1}'", "pasted-quotes", "straight quotes"),
    "curly quotes around a word": ("--dtype \u201cauto\u201d", "pasted-quotes", "straight quotes"),
    "a line end": (r"--seed 1 \\ --dtype auto", "pasted-line-end", "a single \\"),
    "a line end with a blank": (r"--seed 1 \ --dtype auto", "pasted-line-end", "' --dtype'"),
    "a line end of PowerShell": ("--seed 1 '`' --dtype auto", "pasted-line-end", "a single `"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "error_id", "told"), WORDS.values(), ids=WORDS)
def test_words_after_vllm_that_were_pasted_badly(line: str, error_id: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        pasted.check_words(shlex.split(line))
    assert caught.value.id == error_id
    assert told in caught.value.render()


FINE = [
    "--max-model-len 4096 -tp 2 -O3",
    '--speculative-config \'{"method": "mtp"}\' --compilation-config 3',
    "--speculative-config.method mtp --limit-mm-per-prompt.image 2",
    "--chat-template '{{ messages }}' --chat-template '{% for %}' --response-role 'a \u2013 b'",
    "--lora-modules SQL=me/sql X=/srv/x --seed -1",
    "--dtype auto ' ' '' '~' -- x",
]


@pytest.mark.parametrize("line", FINE)
def test_words_that_are_fine(line: str) -> None:
    pasted.check_words(shlex.split(line))


SETTINGS = {
    "an en dash": ("\u2013max-num-seqs=64", "pasted-dash", "type max-num-seqs=64"),
    "a dash inside": ("max\u2013num-seqs=64", "pasted-dash", "type max-num-seqs=64"),
    "a variable": ("VLLM_LOGGING_LEVEL=DEBUG", "pasted-variable", "use --env VLLM_LOGGING_LEVEL=DEBUG"),
    "JSON without quotes": ("speculative-config={method:mtp}", "pasted-json", "single quotes"),
    "curly quotes": ("\u201cseed=1\u201d", "pasted-quotes", "straight quotes"),
    "curly quotes in a value": ("hf_overrides={\u201ca\u201d: 1}", "pasted-quotes", "straight quotes"),
}


@pytest.mark.parametrize(("text", "error_id", "told"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_were_pasted_badly(text: str, error_id: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        settings.parse([text])
    assert caught.value.id == error_id
    assert told in caught.value.render()


@given(st.lists(st.sampled_from(VALUES) | st.text(max_size=12)))
def test_any_words_are_accepted_or_rejected_in_one_line(words: list[str]) -> None:
    try:
        pasted.check_words(words)
    except InputError as error:
        assert "\n" not in error.render()
