"""What the installed vLLM makes of what models write, read by pi; and the recordings of the unit tests beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pi.prompt import chat_completions
from pi.prompt.answer import Answer
from pi.prompt.sse import EventDecoder
from tests.e2e.test_arguments import CATALOG, MINUTES

STREAMS = Path(__file__).parents[1] / "unit" / "prompt" / "streams"
READ = '{"file_path": "/srv/a.txt"}'
READ_5 = '{"file_path": "/srv/a.txt", "limit": 5}'
THINKS = {"thinking": True}


@dataclass(frozen=True)
class Dialect:
    """What a model of a family writes; `opening` is how its template begins an answer that thinks."""

    text: str
    tools: str | None = None
    reasoning: str | None = None
    markers: tuple[str, ...] = ()
    template: dict[str, Any] = field(default_factory=dict)
    opening: str = ""
    model_type: str = "any"
    finish: str = "stop"


TOOL_CALL = ("<tool_call>", "</tool_call>")
THINK = ("<think>", "</think>")
KIMI = tuple(
    f"<|{name}|>"
    for name in (
        *("tool_calls_section_begin", "tool_calls_section_end"),
        *("tool_call_begin", "tool_call_argument_begin", "tool_call_end"),
    )
)
DEEPSEEK = tuple(f"<｜tool▁{name}｜>" for name in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep"))


def hermes(*calls: tuple[str, str]) -> str:
    return "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>' for name, arguments in calls
    )


def xml(name: str, **arguments: Any) -> str:
    """A call as Qwen3-Coder writes it."""
    values = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{values}</function>\n</tool_call>"


def kimi(*calls: tuple[str, str]) -> str:
    said = "".join(
        f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"
        for number, (name, arguments) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{said}<|tool_calls_section_end|>"


def dsml(wrapper: str, *calls: tuple[str, dict[str, Any]]) -> str:
    """Calls as DeepSeek writes them from V3.2 on."""
    said = ""
    for name, arguments in calls:
        said += f'<｜DSML｜invoke name="{name}">\n'
        for key, value in arguments.items():
            kind = "true" if isinstance(value, str) else "false"
            said += f'<｜DSML｜parameter name="{key}" string="{kind}">{value}</｜DSML｜parameter>\n'
        said += "</｜DSML｜invoke>\n"
    return f"<｜DSML｜{wrapper}>\n{said}</｜DSML｜{wrapper}>"


TWO_CALLS = (("read", {"file_path": "/srv/a.txt", "limit": 5}), ("ls", {"path": "/srv/é"}))

DIALECTS = {
    "qwen-hermes-two-calls": Dialect(
        "I will look.\n" + hermes(("read", READ_5), ("ls", '{"path": "/srv/é"}')), "hermes", markers=TOOL_CALL
    ),
    "qwen3-thinking-call": Dialect(
        "<think>\nThe user wants a file. ✅\n</think>\n\n" + hermes(("glob", '{"pattern": "**/*.py"}')),
        "hermes", "qwen3", (*THINK, *TOOL_CALL),
    ),
    "qwen3-coder-xml": Dialect(
        "Reading.\n" + xml("read", file_path="/srv/a.txt", limit=5), "qwen3_coder", markers=TOOL_CALL
    ),
    "hermes-broken-json": Dialect(
        '<tool_call>\n{"name": "read", "arguments": {"file_path": "/srv/a.txt"\n</tool_call>',
        "hermes", markers=TOOL_CALL,
    ),
    "hermes-cut-arguments": Dialect(
        '<tool_call>\n{"name": "read", "arguments": {"file_path": "' + "1234567890" * 4,
        "hermes", markers=TOOL_CALL, finish="length",
    ),
    "kimi-k2-two-calls": Dialect(
        "<think>Two files.</think>Let me see." + kimi(("read", READ), ("rg", '{"args": "-n TODO"}')),
        "kimi_k2", "kimi_k2", (*THINK, *KIMI), model_type="kimi_k2",
    ),
    "glm-4.7-call": Dialect(
        "I should list it.</think>Listing.<tool_call>read<arg_key>file_path</arg_key><arg_value>/srv/a.txt</arg_value>"
        "<arg_key>limit</arg_key><arg_value>5</arg_value></tool_call>",
        "glm47", "glm45", (*THINK, *TOOL_CALL, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        opening="<think>",
    ),
    "gpt-oss-call": Dialect(
        "<|channel|>analysis<|message|>Need to read the file.<|end|><|start|>assistant<|channel|>commentary<|message|>"
        "Let me look.<|end|><|start|>assistant<|channel|>commentary to=functions.read <|constrain|>json<|message|>"
        f"{READ}<|call|>",
        "openai", "openai_gptoss", model_type="gpt_oss",
    ),
    "deepseek-r1-thinking": Dialect(
        "Okay, two and two.\nThat is four.</think>\n\nThe answer is 4.",
        None, "deepseek_r1", THINK, opening="<think>\n",
    ),
    "deepseek-v3.1-call": Dialect(
        "A file.</think>Let me look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>read<｜tool▁sep｜>"
        f"{READ}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "deepseek_v31", "deepseek_v3", (*THINK, *DEEPSEEK), THINKS, "<think>",
    ),
    "deepseek-v3.2-two-calls": Dialect(
        "I will look.\n\n" + dsml("function_calls", *TWO_CALLS), "deepseek_v32", markers=("｜DSML｜",)
    ),
    "deepseek-v3.2-thinking-call": Dialect(
        "Two files.</think>Let me see.\n\n" + dsml("function_calls", *TWO_CALLS),
        "deepseek_v32", "deepseek_v3", (*THINK, "｜DSML｜"), THINKS, "<think>",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def spoken(venv: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The stream of every dialect, by the installed vLLM."""
    answer = subprocess.run(
        [venv / "bin" / "python", Path(__file__).with_name("speak_by_vllm.py")],
        input=json.dumps({name: asdict(dialect) for name, dialect in DIALECTS.items()}),
        capture_output=True,
        text=True,
        timeout=MINUTES * 60,
        env={
            **os.environ,
            "VLLM_LOGGING_LEVEL": "ERROR",
            "TIKTOKEN_ENCODINGS_BASE": str(vocabulary_of_gpt_oss(tmp_path_factory.mktemp("vocabulary"))),
        },
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    streams: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    return streams


def vocabulary_of_gpt_oss(folder: Path) -> Path:
    """A folder with `o200k_base.tiktoken`; its home is a site of OpenAI's, but the PyPI package litellm has it too."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps", "-d", folder,
         "litellm"],
        check=True,
    )  # fmt: skip
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        kept = "litellm/litellm_core_utils/tokenizers/fb374d419588a4632f3f557e76b4b70aebbca790"
        (folder / "o200k_base.tiktoken").write_bytes(wheel.read(kept))
    return folder


def chunks(stream: bytes) -> list[dict[str, Any]]:
    return EventDecoder().feed(stream)


def understood(stream: bytes) -> tuple[str, str, list[tuple[str, Any]], str | None]:
    answer = Answer()
    for chunk in chunks(stream):
        chat_completions.read(chunk, answer)
    message = answer.message()
    assert all(call.id for call in message.calls)
    calls = [(call.name, as_object(call.arguments)) for call in message.calls]
    return message.thinking.strip(), message.text, calls, answer.finish


def as_object(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def shapes(stream: bytes) -> set[str]:
    """The fields of a stream's chunks with the types of their values, each path once."""
    return {path for chunk in chunks(stream) for path in _paths(chunk)}


def _paths(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {found for key, inner in value.items() for found in _paths(inner, f"{path}.{key}")}
    if isinstance(value, list):
        return {found for inner in value for found in _paths(inner, f"{path}[]")} or {f"{path}[]"}
    return {f"{path}: {type(value).__name__}"}


@pytest.mark.parametrize("name", DIALECTS)
def test_pi_reads_the_installed_vllm_as_it_reads_the_recording(spoken: dict[str, str], name: str) -> None:
    recording = (STREAMS / f"{name}.sse").read_bytes()
    live = spoken[name].encode()
    assert understood(live) == understood(recording)
    assert shapes(live) == shapes(recording)


def test_every_recording_of_chat_completions_is_held_to() -> None:
    recorded = {path.stem for path in STREAMS.glob("*.sse") if not path.stem.startswith("responses-")}
    assert set(DIALECTS) == recorded


def test_the_parsers_are_those_that_the_catalog_names() -> None:
    named = {spec.tools for spec in CATALOG.models} | {spec.reasoning for spec in CATALOG.models}
    assert {dialect.tools for dialect in DIALECTS.values()} - named <= {None, "deepseek_v31"}
