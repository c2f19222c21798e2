"""`pi logs`: the tail, the following, and text that must not reach a terminal as it is."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.rig.command import KEY, Pi, program
from tests.rig.pod import Pod, kill
from tests.ssh.conftest import Serving


def log(serving: Serving, text: str = "") -> Path:
    """Make this the log of the model that runs."""
    path = serving.box.log_of("qwen")
    path.write_text(text)
    return path


def test_the_last_lines_are_printed(serving: Serving) -> None:
    log(serving, "".join(f"line {n}\n" for n in range(1000)))
    printed = serving.pi.ok("logs", "qwen", "--no-follow")
    assert printed.splitlines() == [f"line {n}" for n in range(800, 1000)]
    assert serving.pi.ok("logs", "qwen", "--no-follow", "--lines", "3") == "line 997\nline 998\nline 999\n"


@pytest.mark.core
def test_new_lines_are_followed_also_into_a_new_file(serving: Serving) -> None:
    path = log(serving, "first\n")
    running = serving.pi.spawn("logs", "qwen")
    running.reads("first\n")
    with path.open("a") as file:
        file.write("second ✅\n")
    running.reads("second ✅\n")
    path.rename(path.with_suffix(".log.1"))
    path.write_text("third\n")
    running.reads("third\n")
    running.interrupt()
    done = running.ends()
    assert (done.code, done.out) == (0, "first\nsecond ✅\nthird\n")


def test_following_ends_with_the_model_and_its_log_can_still_be_read(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    running = pi.spawn("logs", "qwen")
    told = running.reads("Application startup complete.\n")
    kill(pi.models("box")["qwen"]["pid"])
    done = running.ends()
    assert (done.code, done.out) == (1, told)
    assert "qwen exited with status 137" in done.err
    assert pi.ok("logs", "qwen", "--no-follow") == told


HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]52;c;aGFjaw==\x07 \x1b[2J\x1b[1;1H$ rm -rf \u202e/ \x9b31m \x00\x08 ü ✅\r\nend\n"


def test_escape_sequences_of_a_log_do_not_pass(serving: Serving) -> None:
    log(serving, HOSTILE)
    told = serving.pi.ok("logs", "qwen", "--no-follow")
    assert told == "red  $ rm -rf / 31m  ü ✅\nend\n"


def test_colours_pass_to_a_terminal_and_nothing_else(serving: Serving) -> None:
    log(serving, HOSTILE)
    done = subprocess.run(
        ["script", "-qec", f"{program('pi')} logs qwen --no-follow", "/dev/null"],
        env={**serving.pi.environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.stdout.replace("\r\n", "\n") == "\x1b[31mred\x1b[0m  $ rm -rf / 31m  ü ✅\nend\n"


def test_bytes_that_are_no_text_are_replaced(serving: Serving) -> None:
    log(serving)
    serving.box.log_of("qwen").write_bytes(b"good\n\xff\xfe\xc3\n")
    assert serving.pi.ok("logs", "qwen", "--no-follow") == "good\n���\n"


def test_a_huge_log_is_followed_from_its_end(serving: Serving) -> None:
    log(serving)
    with serving.box.log_of("qwen").open("w") as file:
        file.truncate(2**34)  # a hole of 16 GiB
        file.seek(0, 2)
        file.write("\nthe last line\n")
    assert serving.pi.ok("logs", "qwen", "--no-follow", "--lines", "1") == "the last line\n"


def test_a_long_log_passes_whole(serving: Serving) -> None:
    text = "".join(f"{n:06d} {'x' * 90}\n" for n in range(100_000))
    log(serving, text)
    assert serving.pi.ok("logs", "qwen", "--no-follow", "--lines", "100000") == text


def test_lines_are_chosen_by_text_time_and_number(serving: Serving) -> None:
    now = time.strftime("%m-%d %H:%M:%S")
    path = log(serving, "INFO 01-01 00:00:00 [a.py:1] old error\nrest\n" + f"INFO {now} [a.py:1] new error\nfine\n")
    path.with_name("qwen.log.1").write_text("the start before\n")
    assert serving.pi.ok("logs", "qwen", "--no-follow", "--since", "10m") == f"INFO {now} [a.py:1] new error\nfine\n"
    assert serving.pi.ok("logs", "qwen", "--no-follow", "--grep", "ERROR", "-n", "1").endswith("new error\n")
    assert serving.pi.ok("logs", "qwen", "--previous") == "the start before\n"
    assert "no log of a setup" in serving.pi("logs", "--setup").err


@pytest.mark.core
def test_a_name_without_a_log_is_reported(serving: Serving) -> None:
    done = serving.pi("logs", "qwem")
    assert done.code == 1
    assert "qwem has no log" in done.err


def test_a_raw_log_keeps_its_escapes_and_still_shows_no_key(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    box.log_of("qwen").write_text(f"\x1b[2J\x1b]0;title\x07red \x1b[31m{KEY}\x1b[0m\n")
    assert pi.ok("logs", "qwen", "--no-follow", "--raw") == "\x1b[2J\x1b]0;title\x07red \x1b[31m***\x1b[0m\n"
    assert pi.ok("logs", "qwen", "--no-follow") == "red ***\n"
