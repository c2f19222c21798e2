"""Causes and hints of failed starts: logs in tests/cases/failures, and hostile ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi.planning import variables
from pi.text import one_line
from pi.vllm import log as vllm_log
from pi.vllm import log_hints
from pi.vllm import settings as settings_of_vllm
from pi.vllm.arguments import Arguments
from pi.vllm.log import MAX_LINES, Failure, explain
from pi.vllm.log_lines import MAX_CHARACTERS
from pi.vllm.start_facts import StartFacts, read_facts
from tests.rig.cases import CASES, load, names

FOLDER = CASES / "failures"


@dataclass(frozen=True)
class Case:
    """The keys of a case (tests/cases/failures/README.md)."""

    about: str
    source: str
    log: str
    cause: str
    exit_code: int | None = None
    id: str | None = None
    hint: str | None = None
    start: dict[str, Any] = field(default_factory=dict)
    args: str = ""
    correction: str | None = None


def read(name: str) -> Case:
    return load(Case, FOLDER / f"{name}.toml")


def explained(case: Case) -> Failure:
    """Explain a case's log; without the key `start`, with what the log says of its start."""
    given = dict(case.start)
    if not given:
        return explain(case.log, case.exit_code)
    args, kernel = Arguments.parse(shlex.split(given.pop("args", ""))), tuple(given.pop("kernel", ()))
    return explain(case.log, case.exit_code, StartFacts(args=args, kernel=kernel, **given))


@pytest.mark.parametrize("name", names(FOLDER))
def test_log_gives_cause_and_hint(name: str) -> None:
    case = read(name)
    failure = explained(case)
    assert failure.cause == case.cause.removesuffix("\n")
    assert (failure.id, failure.hint) == (case.id, case.hint)


@pytest.mark.parametrize("name", names(FOLDER))
def test_colours_and_windows_line_ends_are_ignored(name: str) -> None:
    lines = read(name).log.splitlines()
    coloured = "\r\n".join(f"\x1b[0;36m{line[:20]}\x1b[0m{line[20:]}\x1b[K" for line in lines)
    assert explain(coloured, 1) == explain("\n".join(lines), 1)


@pytest.mark.parametrize("start", range(0, 12_000, 997))
def test_tail_inside_a_line_gives_the_same_cause(start: int) -> None:
    log = read("corrupted_safetensors").log
    assert explain(log[start:], 1) == explain(log, 1)


def test_hint_names_the_venv_that_vllm_ran_from() -> None:
    log = "ImportError: packages that were not found in your environment: timm. Run `pip install timm`"
    assert str(explain(log, 1, StartFacts(venv="venv-0.33.0")).hint).endswith("uv pip install -p ~/venv-0.33.0 timm")


@pytest.mark.parametrize(
    "lines",
    [[*["x"] * 20_000, "ValueError: x", *["x"] * 100], ["ValueError: x" + " " * 9000]],
    ids=["the end of a long log", "the beginning of a line that is longer than the limit"],
)
def test_cause_is_found_in_a_huge_log(lines: list[str]) -> None:
    assert explain("\n".join(lines) + "\n", 1).cause == "ValueError: x"


def test_every_hint_has_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[int] = set()

    def advice_for(text: str, facts: StartFacts) -> log_hints.Advice | None:
        found = log_hints.hint_for(text)
        reached.add(id(found and found[0]))
        return None

    monkeypatch.setattr(vllm_log, "advice_for", advice_for)
    for name in names(FOLDER):
        explained(read(name))
    assert [f"{hint.id}: {hint.pattern[:60]}" for hint in log_hints.HINTS if id(hint) not in reached] == []


def test_a_hint_never_names_what_the_start_had() -> None:
    for name in names(FOLDER):
        case = read(name)
        given = dict(case.start)
        args = Arguments.parse(shlex.split(given.pop("args", "")))
        facts = StartFacts(args=args, **given) if given else read_facts(case.log)
        assert not facts.already(explained(case).hint or ""), name


def test_every_flag_of_a_hint_is_one_that_pi_takes() -> None:
    for hint in log_hints.HINTS:
        words = shlex.split(re.sub(r"\{\w+\}", "8", " ".join(way for way in hint.ways if way.startswith("--"))))
        pairs = list(zip(words[::2], words[1::2], strict=True))
        settings_of_vllm.parse([value for flag, value in pairs if flag == "--set"])
        variables.parse([value for flag, value in pairs if flag == "--env"])
        assert {flag for flag, _ in pairs} <= {"--set", "--env", "--memory", "--gpus", "--context", "--variant"}


HOSTILE = [
    "RuntimeError: Engine core initialization failed\n" * 1000,
    "vllm: error: " + "x" * 100_000,
    "ValueError: " + "\x1b]0;owned\x07\x1b[2J\u202e\x00" * 100,
    "ValueError: {0} {model} %s {",
    "OSError: You are trying to access a gated repo. https://huggingface.co/$(reboot)/`x`",
    "ValueError: 1 validation error for X\n" * 500,
    "Traceback (most recent call last):\n" * 500 + "MemoryError",
    "a." * 50_000 + "Error",
    "(" * 50_000,
    "(EngineCore pid=1) " * 3000,
    "estimated maximum model length is " + "9" * 50_000,
    "\r" * 10_000,
    "\x1b" * 10_000,
    "ValueError:\n" + '  File "x", line 1, in y\n' * 3000 + "AssertionError",
    "\ud800\udfff",
]


def check(text: str, code: int | None) -> None:
    failure = explain(text, code)
    lines = failure.cause.split("\n")
    assert 1 <= len(lines) <= MAX_LINES
    assert all(0 < len(line) <= MAX_CHARACTERS for line in lines)
    assert all(line == one_line(line, MAX_CHARACTERS) for line in lines)
    assert failure.hint is None or failure.hint == one_line(failure.hint)


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:30]) for text in HOSTILE])
def test_hostile_log_gives_a_short_plain_cause(text: str) -> None:
    check(text, 1)


WORKER = "(Worker_TP0 pid=71) ERROR 11-23 14:52:16 [multiproc_executor.py:953]"
ENGINE = "(EngineCore pid=95) ERROR 11-23 14:52:18 [core.py:1510]"
SERVER = "(APIServer pid=69)"
SERVING = f"{SERVER} ERROR 11-23 15:02:00 [serving.py:300]"
TRACEBACK = "Traceback (most recent call last):"
PIECES = [
    WORKER,
    ENGINE,
    f"{ENGINE} {TRACEBACK}",
    f"{ENGINE} Exception: WorkerProc initialization failed due to an exception in a background process.",
    TRACEBACK,
    '  File "/root/venv/lib/python3.12/site-packages/vllm/v1/worker/gpu_worker.py", line 12, in load_model',
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
    f"{SERVER} INFO 11-23 15:01:15 [launcher.py:195] Route: /v1/models",
    "INFO:     Application startup complete.",
    f"{SERVING} Error in preprocessing prompt inputs",
    f"{SERVING} {TRACEBACK}",
    f"{SERVING} ValueError: the prompt is too long",
    "ERROR:    Exception in ASGI application",
    "json.decoder.JSONDecodeError: Expecting value",
    "Failed to load plugin x",
    "ModuleNotFoundError: No module named 'x'",
    '  File "/usr/lib/python3.12/multiprocessing/resource_tracker.py", line 239, in main',
    "    cache[rtype].remove(name)",
    "KeyError: '/psm_d3e34e2d'",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 5 has a total capacity of 79.25 GiB.",
    f"{SERVER} ERROR 11-23 15:02:38 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore "
    "encountered an issue. See stack trace (above) for the root cause.",
    'INFO:     127.0.0.1:48078 - "POST /v1/chat/completions HTTP/1.1" 400 Bad Request',
    "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-6824e511;85e8458c)",
    "Cannot access gated repo for url https://huggingface.co/google/gemma-3-4b-pt/resolve/main/config.json.",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=20)), st.sampled_from("\n \r"), st.integers() | st.none())
@settings(max_examples=200)
def test_any_log_gives_a_short_plain_cause(pieces: list[str], glue: str, code: int | None) -> None:
    check(glue.join(pieces), code)


def test_hint_contains_nothing_that_a_shell_would_run() -> None:
    assert explain(HOSTILE[4], 1).hint == read("gated_mirror").hint


TAG = re.compile(r"(?m)^(\([^)]*pid=\d+\))")

COPIED: dict[str, Callable[[str], str]] = {
    "CRLF": lambda log: log.replace("\n", "\r\n"),
    "empty lines between": lambda log: log.replace("\n", "\n\n"),
    "colours": lambda log: TAG.sub("\x1b[1;36m\\1\x1b[0;0m", log),
    "colours without their escape character": lambda log: TAG.sub(r"[1;36m\1[0;0m", log),
    "colours with ESC": lambda log: TAG.sub(r"ESC[1;36m\1ESC[0;0m", log),
    "colours with ^[": lambda log: TAG.sub(r"^[[1;36m\1^[[0;0m", log),
    "a fence": lambda log: f"```text\n{log}\n```\n",
    "a prompt below": lambda log: f"{log}\n(base) me@box:~$ \n",
    "HTML": lambda log: log.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;"),
    "curly quotes": lambda log: re.sub(r'File "([^"]*)"', r"File “\1”", log),
    "lost indents": lambda log: re.sub(r"(?m)^((?:\([^)]*pid=\d+\) )?)[ \t]+", r"\1", log),
}

PREFIXES = (
    "vllm-1  | ", "vllm-1  | 2026-03-11T17:57:09.855212259Z ", "Aug 17 18:42:18 box vllm[8052]: ",
    "2026-08-17T18:42:18+0200 box vllm[8052]: ", "2026-03-11T17:57:09.855212259Z stderr F ",
    "2025-05-30 18:28:27.890 | ", "[pod/vllm-0/vllm] ", "   12\t", "12: ", "> ", "> > ",
)  # fmt: skip


@pytest.mark.parametrize("change", COPIED.values(), ids=COPIED)
def test_a_log_that_somebody_copied_has_the_same_hint(change: Callable[[str], str]) -> None:
    for case in map(read, names(FOLDER)[::6]):
        assert explained(replace(case, log=change(case.log))).id == case.id, case.about


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_others_put_before_each_line_is_ignored(prefix: str) -> None:
    for case in map(read, names(FOLDER)[::6]):
        assert explained(replace(case, log=re.sub("(?m)^", prefix, case.log))).id == case.id, case.about
