"""Secrets are hidden in every encoding, wherever a stream is split, and without delay."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi import faults, redaction, screen
from pi.on_pod.redact import LONG, MASK, NAMES, SHORTEST, Redactor, Secrets, in_environment_file
from pi.prompt.events import Error, Event, Text, Thinking, ToolCall, ToolResult, TurnEnd
from pi.prompt.history import AssistantMessage, UserMessage
from pi.prompt.render import JsonRenderer, RedactingRenderer, TerminalRenderer
from pi.prompt.sessions import Sessions

PLAIN = "sk-0123456789abcdefCANARY"
ODD = "hf_$('a\"b\\c/d+e%f&g h`é"

WRITTEN = {
    "as it is": lambda secret: secret,
    "in a header": lambda secret: f"Authorization: Bearer {secret}\r\n",
    "in a URL": lambda secret: "https://host/?key=" + quote(secret, safe=""),
    "in a URL's path": lambda secret: "https://host/" + quote(secret),
    "in a URL of small letters": lambda secret: re.sub("%..", lambda code: code[0].lower(), quote(secret)),
    "in JSON": lambda secret: json.dumps({"key": secret}),
    "in JSON of all characters": lambda secret: json.dumps({"key": secret}, ensure_ascii=False),
    "in JSON in JSON": lambda secret: json.dumps(json.dumps({"key": secret})),
    "in a printed dictionary": lambda secret: str({"VLLM_API_KEY": secret}),
    "in a printed dictionary beside both quotes": lambda secret: repr(secret + "'\""),
    "in a log of a printed dictionary": lambda secret: json.dumps(repr({"key": secret})),
    "for a shell": lambda secret: "export KEY=" + shlex.quote(secret),
    "by printf %q": lambda secret: bash('printf %q "$0"', secret),
    "by declare -p": lambda secret: bash('key=$0; declare -p key', secret),
    "by set -x": lambda secret: bash('exec 2>&1; set -x; : "$0"', secret),
    "in base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "in base64 behind a user": lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
    "in base64 between others": lambda secret: base64.b64encode(f"k:{secret}:x".encode()).decode(),
    "in base64 of URLs": lambda secret: base64.urlsafe_b64encode(b"[" + secret.encode() + b"]").decode(),
}  # fmt: skip


def bash(script: str, word: str) -> str:
    return subprocess.check_output(["bash", "-c", script, word], text=True, env={"LC_ALL": "C.UTF-8"})


@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["a plain one", "an odd one"])
@pytest.mark.parametrize("way", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_secret_is_hidden_in_every_encoding(way, secret: str) -> None:  # type: ignore[no-untyped-def]
    written = way(secret)
    hidden = Secrets([secret]).hide(written)
    assert MASK in hidden and hidden != written
    log = "INFO 11-23 10:00:00 [core.py:99] loading\n" * 200
    assert len(log) > LONG and Secrets([secret]).hide(log + written + log) == log + hidden + log
    for part in (secret, "CANARY", 'a"b', "c/d", "d%2Be", "b\\"):
        assert part not in hidden


def test_the_text_around_a_secret_stays() -> None:
    assert Secrets([PLAIN]).hide(f"key={PLAIN}; then {PLAIN}{PLAIN}.") == "key=***; then ******."


def test_short_and_absent_values_hide_nothing() -> None:
    assert Secrets(["none", "", "x" * (SHORTEST - 1)]).hide("none of xxxxxxx") == "none of xxxxxxx"
    redactor = Redactor(Secrets())
    assert redactor.feed("anything") == "anything" and redactor.flush() == ""


def test_the_longer_of_two_similar_secrets_is_hidden_whole() -> None:
    secrets = Secrets([PLAIN, PLAIN + "-and-more"])
    assert secrets.hide(f"{PLAIN}-and-more {PLAIN}-an") == "*** ***-an"
    assert streamed(secrets, [f"a {PLAIN}", "-and-mo", f"re {PLAIN}", "-an"]) == "a *** ***-an"


def streamed(secrets: Secrets, pieces: list[str]) -> str:
    redactor = Redactor(secrets)
    return "".join([redactor.feed(piece) for piece in pieces]) + redactor.flush()


@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["a plain one", "an odd one"])
def test_a_secret_is_hidden_wherever_the_stream_is_split(secret: str) -> None:
    for text in (f"sk-sk-{secret}hf_\n", f"{json.dumps(secret)} {shlex.quote(secret)}"):
        whole = Secrets([secret]).hide(text)
        assert MASK in whole
        for first in range(len(text) + 1):
            for second in range(first, len(text) + 1, 3):
                assert streamed(Secrets([secret]), [text[:first], text[first:second], text[second:]]) == whole
        assert streamed(Secrets([secret]), list(text)) == whole


@given(st.lists(st.text(st.sampled_from("ab"), max_size=9), max_size=6))
def test_a_stream_is_redacted_equally_however_it_is_split(pieces: list[str]) -> None:
    secrets = Secrets(["abababab", "babababba", "aaaaaaaa"])
    assert streamed(secrets, pieces) == secrets.hide("".join(pieces))


def test_only_the_possible_start_of_a_secret_is_held_back() -> None:
    redactor = Redactor(Secrets([PLAIN]))
    assert redactor.feed("a line\n") == "a line\n"
    assert redactor.feed("loading: sk-0") == "loading: "
    assert redactor.feed(" token") == "sk-0 token"
    assert redactor.feed("sk-01234\n") == "sk-01234\n"
    assert redactor.feed("sk-01") == "" and redactor.flush() == "sk-01"


def test_numbers_and_field_names_of_an_event_stay() -> None:
    secrets = Secrets(["1234567890123456"])
    event = {"pid": 1234567890123456, "text": "1234567890123456", "list": [None, {"a": "x1234567890123456"}]}
    assert secrets.hide_all(event) == {"pid": 1234567890123456, "text": "***", "list": [None, {"a": "x***"}]}


def test_secrets_of_a_pod_are_read_from_its_environment_file() -> None:
    text = f"# comment 'x\nexport HF_TOKEN={shlex.quote(ODD)}\nexport PI_API_KEY={PLAIN}\nexport HF_X=1  # isn't\nfi\n"
    assert in_environment_file(text) == [ODD, PLAIN]


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(redaction, "_added", set())
    monkeypatch.setenv("PI_API_KEY", PLAIN)
    return PLAIN


@pytest.mark.parametrize("name", NAMES)
def test_values_of_the_environment_are_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, PLAIN)
    assert redaction.redacted(f"x {PLAIN}") == "x ***"


def test_all_output_is_redacted(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen.say(f"say {key}")
    screen.note(f"note {key}")
    screen.table([(f"cell {key}",)], ("HEAD",))
    screen.columns([("a", key)])
    screen.Progress().show(f"progress {'x' * 140} {key}")
    output = screen.Output()
    for piece in ("log ", key[:5], key[5:], "\n", key[:4]):
        output.write(piece)
    output.end()
    printed = "".join(capsys.readouterr())
    assert printed.count("***") == 6 and "CANARY" not in printed and key[:9] not in printed
    assert key[:4] in printed


def test_a_secret_with_escape_sequences_inside_is_hidden(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    split = f"{key[:6]}\x1b[2K{key[6:]}"
    screen.say(split)
    output = screen.Output()
    output.write(split)
    output.end()
    assert capsys.readouterr().out == "***\n***"


def test_reveal_prints_a_secret(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen.reveal(f"export PI_API_KEY={key}")
    assert capsys.readouterr().out == f"export PI_API_KEY={key}\n"


PIECES: list[Event] = [
    Thinking("the key is " + PLAIN[:3]),
    Thinking(PLAIN[3:9]),
    Thinking(PLAIN[9:] + ", s"),
    Text("it is " + PLAIN[:-1]),
    Text(PLAIN[-1:]),
    Text("! sk-"),
    ToolCall("1", "rg", {"args": PLAIN}, json.dumps({"args": PLAIN})),
    ToolResult("1", "rg", f"{'x' * 150} {PLAIN}\n", False, 0.1),
    Error(f"failed: {PLAIN}", f"try {PLAIN}", "it-failed"),
    TurnEnd("stop", f"it is {PLAIN}", 1, 1, 1, 1, 0.1, 1.0, 1.0),
]


def test_events_are_redacted_wherever_the_stream_is_split(key: str) -> None:
    out = io.StringIO()
    renderer = RedactingRenderer(JsonRenderer(out))
    for event in PIECES:
        renderer.show(event)
    renderer.close()
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert "".join(event["text"] for event in events if event["type"] == "thinking") == "the key is ***, s"
    assert "".join(event["text"] for event in events if event["type"] == "text") == "it is ***! sk-"
    assert [event["type"] for event in events if event["type"] not in ("text", "thinking")] == [
        "tool_call", "tool_result", "error", "turn_end",
    ]  # fmt: skip
    assert events[-1]["text"] == "it is ***" and events[-1]["rounds"] == 1
    assert "CANARY" not in out.getvalue()


def test_a_line_is_redacted_before_it_is_cut(key: str) -> None:
    out = io.StringIO()
    renderer = RedactingRenderer(TerminalRenderer(out, out, colour=False, echo=True))
    for event in PIECES:
        renderer.show(event)
    renderer.close()
    assert key[:6] not in out.getvalue()
    assert "it is ***! sk-" in out.getvalue()


def test_a_saved_conversation_contains_no_secret(key: str, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    session = sessions.new(tmp_path, "qwen")
    sessions.save(session, [UserMessage("x" * 190 + key), AssistantMessage(f"it is {key}")])
    [path] = tmp_path.rglob("*.jsonl")
    assert key[:6] not in path.read_text()
    assert sessions.history(session) == [UserMessage("x" * 190 + MASK), AssistantMessage("it is ***")]


def failed(key: str) -> Exception:
    try:
        raise ValueError(f"bad {key}")
    except ValueError as error:
        return error


def test_the_traceback_of_a_bug_is_written_only_on_request(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "pi"))
    message = faults.describe(failed(key))
    assert "Traceback" not in message and "PI_DEBUG=1" in message
    assert not (tmp_path / "pi").exists()
    monkeypatch.setenv("PI_DEBUG", "1")
    message = faults.describe(failed(key))
    [path] = (tmp_path / "pi").iterdir()
    assert str(path) in message and "Traceback" not in message
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.read_text()
    assert "Traceback" in written and "in failed" in written and "bad ***" in written and key not in written


def test_a_failed_write_of_a_traceback_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "file" / "pi"))
    monkeypatch.setenv("PI_DEBUG", "1")
    assert "cannot write the traceback: " in faults.describe(failed("x"))
    assert os.listdir(tmp_path) == ["file"]
