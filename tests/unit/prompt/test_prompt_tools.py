"""The tools as a model calls them: results, limits, and explained failures."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pi.prompt import files
from pi.prompt.files import ENTRIES, LINE_BYTES, LINES
from pi.prompt.history import Call, ToolMessage
from pi.prompt.limits import RESULT_BYTES, Deadline, ToolError, cut
from pi.prompt.paths import PathPolicy
from pi.prompt.tools import MAX_CALLS, TOOLS, Tool, Toolbox


class Box:
    """A directory and a toolbox for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tools = Toolbox(PathPolicy(root))

    def call(self, name: str, arguments: Any) -> ToolMessage:
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return self.tools.call(Call("1", name, written), threading.Event())

    def text(self, name: str, **arguments: Any) -> str:
        message = self.call(name, arguments)
        assert not message.is_error, message.text
        return message.text

    def error(self, name: str, arguments: Any) -> str:
        message = self.call(name, arguments)
        assert message.is_error, message.text
        return message.text


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        pytest.param("write", {}, "unknown tool 'write'; the tools are: ls, read, glob, rg", id="an unknown tool"),
        pytest.param("", {}, "unknown tool ''", id="a tool without a name"),
        pytest.param("read", "", "'file_path' is missing; the arguments are: file_path, offset?, limit?", id="none"),
        pytest.param("read", "{", "the arguments are not valid JSON: Expecting property name", id="broken JSON"),
        pytest.param("read", '{"file_path": "12345', "the arguments are not valid JSON: Unterminated", id="cut JSON"),
        pytest.param("read", "[1]", "the arguments must be a JSON object, not [1]", id="a list"),
        pytest.param("read", '"{}"', "the arguments must be a JSON object", id="JSON within JSON"),
        pytest.param("read", "[" * 100_000, "nested too deeply", id="JSON to make the parser overflow"),
        pytest.param("read", '{"file_path": ' + "1" * 5000 + "}", "not valid JSON", id="an endless number"),
        pytest.param("read", '{"file_path": "a", "offset": NaN}', "not valid JSON", id="a number that is none"),
        pytest.param("read", '{"file_path": "a", "offset": 1e999}', "not valid JSON", id="a number beyond numbers"),
        pytest.param("read", {"file_path": 7}, "'file_path' must be of type string", id="another type"),
        pytest.param("read", {"file_path": None}, "'file_path' must be of type string", id="null where needed"),
        pytest.param("read", {"file_path": "a", "offset": "2"}, "'offset' must be of type integer", id="text"),
        pytest.param("read", {"file_path": "a", "offset": True}, "'offset' must be of type integer", id="a bool"),
        pytest.param("read", {"file_path": "a", "offset": 0}, "'offset' must be at least 1", id="too small"),
        pytest.param("read", {"file_path": "a", "lines": 2}, "unknown argument 'lines'", id="an unknown argument"),
        pytest.param("ls", {"path": ".", "ignore": [1]}, "'ignore[]' must be of type string", id="a list of others"),
        pytest.param("ls", {"path": ".", "ignore": "*.py"}, "'ignore' must be of type array", id="no list"),
        pytest.param("ls", {"path": "/etc"}, "outside the working directory", id="a path outside"),
        pytest.param("read", {"file_path": "\ud800"}, "can't encode", id="a path that is no text"),
        pytest.param("glob", {"pattern": "../*"}, 'must not contain ".."', id="a pattern that climbs"),
        pytest.param("glob", {"pattern": "/etc/*"}, "must be relative", id="an absolute pattern"),
        pytest.param("glob", {"pattern": ""}, "the pattern is empty", id="an empty pattern"),
        pytest.param("glob", {"pattern": "{a,b}" * 7}, "more than 64", id="a pattern that unfolds without end"),
        pytest.param("rg", {"args": "--pre=x y"}, "--pre is not allowed", id="a flag that runs a program"),
    ],
)
def test_a_wrong_call_gets_an_explanation(box: Box, name: str, arguments: Any, says: str) -> None:
    assert says in box.error(name, arguments)


def test_optional_arguments_may_be_null(box: Box) -> None:
    (box.root / "a").write_text("text\n")
    assert box.text("read", file_path="a", offset=None, limit=None) == "text\n"


def test_ls_shows_kinds_and_targets(box: Box) -> None:
    (box.root / "dir").mkdir()
    (box.root / "file.txt").touch()
    (box.root / "link").symlink_to("/etc/passwd")
    (box.root / "new\nline").touch()
    (box.root / "\x1b[2Jcls").touch()
    os.mkfifo(box.root / "pipe")
    os.close(os.open(os.fsencode(box.root) + b"/latin-\xe9", os.O_CREAT))
    assert box.text("ls", path=str(box.root)).split("\n") == [
        '"\\u001b[2Jcls"',
        '"latin-\\udce9"',
        '"new\\nline"',
        "dir/",
        "file.txt",
        "link -> /etc/passwd",
        "pipe (a named pipe)",
    ]


def test_ls_omits_ignored_names(box: Box) -> None:
    (box.root / "a.py").touch()
    (box.root / "b.txt").touch()
    assert box.text("ls", path=".", ignore=["*.py"]) == "b.txt"
    assert box.text("ls", path=".", ignore=["*"]) == "[the directory is empty]"


def test_ls_has_a_limit(box: Box) -> None:
    for number in range(ENTRIES + 5):
        (box.root / f"{number:04}").touch()
    lines = box.text("ls", path=".").split("\n")
    assert len(lines) == ENTRIES + 1
    assert lines[-1] == "[5 more, not shown]"


def test_read_returns_the_file_unchanged(box: Box) -> None:
    (box.root / "a.txt").write_bytes("é\r\nno end".encode())
    assert box.text("read", file_path=str(box.root / "a.txt")) == "é\r\nno end"


def test_read_continues_at_an_offset(box: Box) -> None:
    (box.root / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 11)))
    assert box.text("read", file_path="a.txt", offset=3, limit=2) == (
        "line 3\nline 4\n[cut: lines 3 to 4 are shown; continue with offset 5]"
    )
    assert box.text("read", file_path="a.txt", offset=10) == "line 10\n"
    assert box.text("read", file_path="a.txt", offset=11) == "[the file has fewer than 11 lines]"


def test_read_has_limits_of_lines_and_bytes(box: Box) -> None:
    (box.root / "lines").write_text("x\n" * 5000)
    (box.root / "bytes").write_text(("y" * 999 + "\n") * 500)
    by_lines, by_bytes = box.text("read", file_path="lines"), box.text("read", file_path="bytes")
    assert by_lines.endswith(f"[cut: lines 1 to {LINES} are shown; continue with offset {LINES + 1}]")
    assert by_bytes.endswith("[cut: lines 1 to 65 are shown; continue with offset 66]")
    assert len(by_bytes) < RESULT_BYTES + 100


def test_read_cuts_a_long_line_and_continues(box: Box) -> None:
    (box.root / "long").write_text("z" * 1_000_000 + "\nafter\n")
    shown = box.text("read", file_path="long")
    assert shown == "z" * LINE_BYTES + " [cut: a line of more than 4,000 bytes]\nafter\n"


def test_read_shows_a_line_of_the_longest_length_whole(box: Box) -> None:
    (box.root / "edge").write_text("z" * LINE_BYTES + "\n" + "y" * LINE_BYTES)
    assert box.text("read", file_path="edge") == "z" * LINE_BYTES + "\n" + "y" * LINE_BYTES


def test_read_of_a_huge_file_is_fast(box: Box) -> None:
    with (box.root / "huge").open("wb") as file:
        file.write(b"start\n" + b"x" * 8192)
        file.truncate(20 * 1024**3)
    began = time.monotonic()
    assert box.text("read", file_path="huge", limit=1) == "start\n[cut: lines 1 to 1 are shown; continue with offset 2]"
    assert time.monotonic() - began < 5


def test_read_names_files_that_it_cannot_show(box: Box) -> None:
    (box.root / "binary").write_bytes(b"\x7fELF\0\0" * 100)
    (box.root / "nul").write_bytes(b"\0")
    (box.root / "empty").touch()
    (box.root / "dir").mkdir()
    os.mkfifo(box.root / "pipe")
    assert box.text("read", file_path="binary") == "[binary file, 600 bytes]"
    assert box.text("read", file_path="nul") == "[binary file, 1 byte]"
    assert box.text("read", file_path="empty") == "[empty file, 0 bytes]"
    assert "is a directory; list it with ls" in box.error("read", {"file_path": "dir"})
    assert "is a named pipe, not a file" in box.error("read", {"file_path": "pipe"})


def test_read_replaces_invalid_utf8(box: Box) -> None:
    (box.root / "latin").write_bytes(b"caf\xe9\n")
    assert box.text("read", file_path="latin") == "caf\N{REPLACEMENT CHARACTER}\n"


@pytest.fixture
def tree(box: Box) -> Box:
    for name in ("a.py", "b.txt", "src/c.py", "src/deep/d.py", "src/deep/e.ts", ".git/f.py", ".hidden.py"):
        (box.root / name).parent.mkdir(parents=True, exist_ok=True)
        (box.root / name).touch()
    return box


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", ["a.py", "src/c.py", "src/deep/d.py"]),
        ("src/**/*.py", ["src/c.py", "src/deep/d.py"]),
        ("**/deep/*", ["src/deep/d.py", "src/deep/e.ts"]),
        ("**/**/**/d.py", ["src/deep/d.py"]),
        ("src/**", ["src/c.py", "src/deep", "src/deep/d.py", "src/deep/e.ts"]),
        ("./src/*.py", ["src/c.py"]),
        ("*/", ["a.py", "b.txt", "src"]),
        ("?.py", ["a.py"]),
        ("[ab].*", ["a.py", "b.txt"]),
        ("**/*.{py,ts}", ["a.py", "src/c.py", "src/deep/d.py", "src/deep/e.ts"]),
        ("{a,b}.{py,txt}", ["a.py", "b.txt"]),
        (".*.py", [".hidden.py"]),
        (".git/*", [".git/f.py"]),
        ("none*", []),
    ],
)
def test_glob_finds(tree: Box, pattern: str, matches: list[str]) -> None:
    expected = "\n".join(str(tree.root / name) for name in matches) or "[no file matches]"
    assert tree.text("glob", pattern=pattern) == expected


def test_glob_searches_in_its_path(tree: Box) -> None:
    assert tree.text("glob", pattern="*.py", path=str(tree.root / "src")) == str(tree.root / "src/c.py")
    assert "is not a directory" in tree.error("glob", {"pattern": "*", "path": "a.py"})


def test_glob_stays_inside_and_out_of_private_paths(tmp_path: Path) -> None:
    for name in ("outside/secret.py", "root/.ssh/id.py", "root/in/x.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    root = tmp_path / "root"
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out.py").symlink_to(tmp_path / "outside/secret.py")
    (root / "cycle").symlink_to(root)
    (root / "ok.py").symlink_to("in/x.py")
    box = Box(root)
    assert box.text("glob", pattern="**/*.py") == f"{root}/in/x.py\n{root}/ok.py"
    assert box.text("glob", pattern="out/*") == "[no file matches]"
    assert box.text("glob", pattern=".ssh/*") == "[no file matches]"
    assert box.text("glob", pattern=".*/*") == "[no file matches]"


def test_glob_has_a_limit(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ENTRIES", 50)
    for number in range(51):
        (box.root / f"{number:04}").touch()
    lines = box.text("glob", pattern="*").split("\n")
    assert len(lines) == 51
    assert lines[-1].startswith("[only the first 50 matches are shown")


@pytest.mark.parametrize(
    ("tool", "arguments", "note"),
    [
        ("ls", {"path": "."}, "more, not shown]"),
        ("glob", {"pattern": "*"}, "matches are shown; use a narrower pattern]"),
    ],
)
def test_a_long_list_is_cut_between_names(box: Box, tool: str, arguments: dict[str, str], note: str) -> None:
    """Half a name would mislead a model."""
    names = {f"{number:04}" + "x" * 200 for number in range(400)}
    for name in names:
        (box.root / name).touch()
    result = box.text(tool, **arguments)
    *lines, last = result.split("\n")
    assert len(result.encode()) <= RESULT_BYTES
    assert len(lines) > 200
    assert {Path(line).name for line in lines} < names
    assert last.endswith(note)


@pytest.mark.parametrize("root", [".ssh", ".ssh/sub", ".pi", ".pi/conversations"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ls", {"path": "."}),
        ("read", {"file_path": "id"}),
        ("glob", {"pattern": "*"}),
        ("rg", {"args": "-uu SECRET"}),
        ("rg", {"args": "-uu --files"}),
        ("rg", {"args": "-uu SECRET ."}),
    ],
)
def test_tools_read_nothing_if_pi_starts_in_a_private_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, name: str, arguments: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = tmp_path / root
    directory.mkdir(parents=True)
    (directory / "id").write_text("SECRET\n")
    box = Box(directory)
    box.tools = Toolbox(PathPolicy.of(directory, tmp_path / ".pi"))
    assert "is private" in box.error(name, arguments)


def test_a_long_result_is_cut_between_characters() -> None:
    assert cut("é" * 10, "cut", limit=20) == "é" * 10
    assert cut("é" * 11, "cut", limit=21) == "é" * 10 + "\n[cut]"


def tool(name: str, run: Any) -> Tool:
    return Tool(name, "", {"type": "object", "properties": {}}, run)


def test_calls_run_in_parallel_and_answer_in_order(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=5)
    toolbox = Toolbox(PathPolicy(tmp_path), [tool("meet", lambda policy, deadline: f"{together.wait() >= 0}")])
    shown: list[str] = []
    results = toolbox.run([Call(str(n), "meet", "") for n in range(3)], lambda result, _: shown.append(result.call_id))
    assert [result.text for result in results] == ["True"] * 3
    assert shown == ["0", "1", "2"]


def test_ctrl_c_stops_the_calls(tmp_path: Path) -> None:
    started, ended = threading.Event(), threading.Event()

    def forever(policy: PathPolicy, deadline: Deadline) -> str:
        started.set()
        try:
            while True:
                deadline.check()
                time.sleep(0.01)
        except ToolError:
            ended.set()
            raise

    def interrupted(result: ToolMessage, seconds: float) -> None:
        raise KeyboardInterrupt

    toolbox = Toolbox(
        PathPolicy(tmp_path), [tool("forever", forever), tool("now", lambda policy, deadline: f"{started.wait(5)}")]
    )
    with pytest.raises(KeyboardInterrupt):
        toolbox.run([Call("1", "now", ""), Call("2", "forever", "")], interrupted)
    assert ended.wait(5)


def test_a_failure_of_a_tool_is_an_error_for_the_model(tmp_path: Path) -> None:
    toolbox = Toolbox(PathPolicy(tmp_path), [tool("broken", lambda policy, deadline: str(1 / 0))])
    message = toolbox.call(Call("1", "broken", "{}"), threading.Event())
    assert (message.text, message.is_error) == ("the tool failed: ZeroDivisionError: division by zero", True)


def test_calls_above_the_limit_do_not_run(tmp_path: Path) -> None:
    results = Toolbox(PathPolicy(tmp_path)).run(
        [Call(str(n), "ls", '{"path": "."}') for n in range(MAX_CALLS + 2)], lambda *_: None
    )
    assert [result.is_error for result in results] == [False] * MAX_CALLS + [True] * 2
    assert results[-1].text == "not run: more than 32 calls in one message"


def test_a_call_ends_when_its_time_is_up() -> None:
    deadline = Deadline(threading.Event(), seconds=0)
    with pytest.raises(ToolError, match="took longer than 0 seconds"):
        deadline.check()


def test_schemas_are_closed_and_declare_required_arguments() -> None:
    for each in TOOLS:
        assert each.parameters["additionalProperties"] is False
        assert set(each.parameters["required"]) <= set(each.parameters["properties"])
        assert each.description
