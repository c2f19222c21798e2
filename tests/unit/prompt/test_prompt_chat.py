"""The interactive chat, on a real terminal: a pseudo-terminal with `pi prompt` in a process behind it."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi.errors import Interrupted
from pi.prompt.chat import chat
from pi.prompt.line_editor import HISTORY_LINES
from tests.unit.prompt.conftest import Prompt, Reply, delta, error, says, sse

CHAT = """
import fcntl, os, signal, sys, termios
from dataclasses import replace
from pathlib import Path
from pi.cli.program import _interrupt
from pi.prompt.endpoint import Endpoint
from pi.prompt.conversation import Options, run
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal's Ctrl+C is for this process
signal.signal(signal.SIGTERM, _interrupt)
url, config, work = sys.argv[1:]
os.chdir(work)
endpoint = Endpoint(url, "m", "k")
endpoint = replace(endpoint, others=("m", "other"), switch=lambda name: replace(endpoint, model=name))
try:
    sys.exit(run(endpoint, [], Options(), config_dir=Path(config), working_dir=Path(work),
                 stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr))
except KeyboardInterrupt as stop:
    sys.exit(128 + stop.args[0])
"""


class Terminal:
    """The user's side of the terminal."""

    def __init__(self, prompt: Prompt) -> None:
        self.master, slave = pty.openpty()
        self.root = Path(__file__).parents[3]
        environment = {
            "PYTHONPATH": str(self.root),
            "PATH": os.environ["PATH"],
            "HOME": str(prompt.config_dir.parent),
            "TERM": "xterm",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHAT, prompt.server.url, str(prompt.config_dir), str(prompt.working_dir)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=self.root,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 20.0) -> None:
        """Wait until `text` appears, and discard everything up to it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} was not seen, but {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # the other end is closed
                    data = b""
                assert data, f"the terminal was closed at {self.seen!r}"
                self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode())
        self.seen = self.seen.partition(text)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def says(self, message: str) -> None:
        self.expect("> ")
        self.type(message + "\n")
        self.expect("tool calls]")

    def leaves(self) -> None:
        self.expect("> ")
        self.type("\x04")
        assert self.process.wait(10) == 0


@pytest.fixture
def terminal(prompt: Prompt) -> Iterator[Terminal]:
    opened = Terminal(prompt)
    yield opened
    opened.close()


def test_a_whole_chat(prompt: Prompt, terminal: Terminal) -> None:
    story = Reply([sse(delta(content="Once upon"), done=False), 20.0, sse(delta("stop"))])
    prompt.server.answer(says("Hello", " there"), story, error(500, {"error": "boom"}), says("Still here"))
    terminal.expect(f"m, which reads {prompt.working_dir.resolve()}. Ctrl+C stops an answer, Ctrl+D leaves.")
    terminal.expect("> ")

    terminal.type("Hi\n")
    terminal.expect("Hello there\r\n")
    terminal.expect("[9 tokens in, 3 out")
    terminal.expect("> ")

    terminal.type("Tell a story\n")
    terminal.expect("Once upon")
    terminal.type("\x03")  # Ctrl+C stops the answer, not the chat
    terminal.expect("[interrupted")
    terminal.expect("> ")

    terminal.type("Break\n")
    terminal.expect("pi: the model's server failed (500): boom")
    terminal.expect("> ")

    terminal.type("half a line")
    terminal.expect("half a line")
    time.sleep(0.3)  # Python's readline misses a signal that comes while it still echoes
    terminal.type("\x03")  # Ctrl+C drops what was typed
    terminal.expect("> ")
    terminal.type("\n")  # nothing is no message
    terminal.expect("> ")

    terminal.type("\x1b[A\n")  # the line before, from the history
    terminal.expect("Still here")
    terminal.expect("> ")
    terminal.type("\x04")
    assert terminal.process.wait(10) == 0

    asked = [request.body["messages"][-1]["content"] for request in prompt.server.requests]
    assert asked == ["Hi", "Tell a story", "Break", "Break"]
    last = [message["content"] for message in prompt.server.requests[-1].body["messages"][1:]]
    assert last == ["Hi", "Hello there", "Tell a story", "Once upon", "Break"]
    history = prompt.config_dir / "prompt_history"
    assert history.read_text().splitlines() == ["Hi", "Tell a story", "Break"]
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert len(list((prompt.config_dir / "conversations").iterdir())) == 1


@pytest.mark.parametrize("answering", [False, True])
def test_sigterm_ends_the_chat_and_saves_it(prompt: Prompt, terminal: Terminal, answering: bool) -> None:
    """It must not act like Ctrl+C, which would leave a chat that nobody can stop."""
    prompt.server.answer(says("Hello"), Reply([sse(delta(content="Once upon"), done=False), 20.0]))
    terminal.expect("> ")
    terminal.type("Hi\n")
    terminal.expect("Hello")
    terminal.expect("> ")
    if answering:
        terminal.type("Tell a story\n")
        terminal.expect("Once upon")
    time.sleep(0.3)  # Python's readline misses a signal that comes while it still echoes
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(10) == 143
    [saved] = (prompt.config_dir / "conversations").iterdir()
    assert ("Once upon" in saved.read_text()) is answering
    assert (prompt.config_dir / "prompt_history").read_text().startswith("Hi\n")


def test_two_chats_at_once_keep_the_history_of_both(prompt: Prompt, terminal: Terminal) -> None:
    prompt.server.answer(says("Hello"))
    with contextlib.closing(Terminal(prompt)) as other:
        terminal.says("first")
        other.says("second")
        other.says("second")
        terminal.says("third")
        other.leaves()
    terminal.leaves()
    history = prompt.config_dir / "prompt_history"
    assert history.read_text().splitlines() == ["second", "first", "third"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in prompt.config_dir.glob("prompt_history*")} == {0o600}


def test_the_history_is_bounded(prompt: Prompt) -> None:
    prompt.config_dir.mkdir()
    history = prompt.config_dir / "prompt_history"
    history.write_text("".join(f"message {number}\n" for number in range(HISTORY_LINES)))
    history.chmod(0o644)
    prompt.server.answer(says("Hello"))
    with contextlib.closing(Terminal(prompt)) as terminal:
        terminal.says("the last")
        terminal.leaves()
    saved = history.read_text().splitlines()
    assert (len(saved), saved[0], saved[-1]) == (HISTORY_LINES, "message 1", "the last")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


@pytest.mark.parametrize(("number", "goes_on"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_the_chat_continues_only_after_ctrl_c(number: int, goes_on: bool) -> None:
    class Once:
        """Talks once, fails, and is its own reader."""

        lines = iter(["hi"])

        def read(self) -> str:
            try:
                return next(self.lines)
            except StopIteration:
                raise EOFError from None

        def answering(self) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()

        def turn(self, message: str) -> None:
            raise Interrupted("interrupted", "interrupted", number)

    once: Any = Once()
    with contextlib.nullcontext() if goes_on else pytest.raises(Interrupted):
        chat(once, once, io.StringIO(), "m")


def test_blocks_lines_and_what_is_typed_during_an_answer(prompt: Prompt, terminal: Terminal) -> None:
    slow = Reply([sse(delta(content="Once upon"), done=False), 1.0, sse(delta(content=" a time"), delta("stop"))])
    prompt.server.answer(says("One"), says("Two"), slow, says("Four"), says("Five"))
    terminal.expect("> ")
    terminal.type("\x1b[200~a pasted\nblock\nof lines\x1b[201~\r")
    terminal.expect("One")
    terminal.expect("> ")
    terminal.type("by a key\x1b\rand by a\\\rbackslash\r")
    terminal.expect("Two")
    terminal.expect("> ")
    terminal.type("Tell a story\r")
    terminal.expect("Once upon")
    terminal.type("typed meanwhile\r\x1b[200~and\npasted\x1b[201~\r")
    terminal.expect(" a time")
    assert "typed" not in terminal.seen, "it would be in the middle of the answer"
    terminal.expect("Four")
    terminal.expect("Five")
    terminal.expect("> ")
    terminal.type("/exit\r")
    assert terminal.process.wait(10) == 0
    asked = [request.body["messages"][-1]["content"] for request in prompt.server.requests]
    assert asked == [
        "a pasted\nblock\nof lines",
        "by a key\nand by a\nbackslash",
        "Tell a story",
        "typed meanwhile",
        "and\npasted",
    ]
    saved = (prompt.config_dir / "prompt_history").read_text().split("\n")
    assert saved[0] == "a pasted\u2028block\u2028of lines", "the next chat reads it as one message"


def test_the_commands_of_a_chat(prompt: Prompt, terminal: Terminal) -> None:
    prompt.server.answer(says("Hello"), says("Again"), says("Anew"))
    terminal.expect("> ")
    for typed, shown in [
        ("/help", "/save FILE"),
        ("Hi", "Hello"),
        ("/save talk.md", "saved as talk.md"),
        ("/save talk.md", "talk.md exists"),
        ("/system Be brief.", "the system message is replaced"),
        ("/clear", "new conversation"),
        ("And now?", "Again"),
        ("/model other", "now talking to other"),
        ("Still?", "Anew"),
        ("/nonsense", "unknown command /nonsense"),
    ]:
        terminal.type(typed + "\r")
        terminal.expect(shown)
        terminal.expect("> ")
    terminal.type("\x04")
    assert terminal.process.wait(10) == 0
    assert (prompt.working_dir / "talk.md").read_text() == "## You\n\nHi\n\n## Model\n\nHello\n"
    last = prompt.server.requests[-1].body
    assert last["model"] == "other"
    assert [message["content"] for message in last["messages"]] == ["Be brief.", "And now?", "Again", "Still?"]
    assert len(list((prompt.config_dir / "conversations").iterdir())) == 2
