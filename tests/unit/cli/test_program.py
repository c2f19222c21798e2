"""The command line read as people write it: operands, flags, raw tails, wrong calls, help and completion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invoke import Collection, Exit

from pi.cli.help import spoken, usage_of
from pi.cli.program import Pi, program
from pi.cli.words import Reading, wants_help
from pi.fabric_tasks import VERBS, namespace
from pi.fabric_tasks.verb import Verb, verb


@verb("name [place] message...", "NAME [PLACE] MESSAGE...", iterable=["message"])
def send(
    c: Any,
    name: str,
    place: str | None = None,
    message: list[str] | None = None,
    times: int = 1,
    loud: bool = False,
    dry_run: bool = False,
) -> None:
    """Send a message."""


@verb("[model]", "MODEL [--vllm RAW...]", tail="vllm", iterable=["vllm"])
def serve(c: Any, model: str | None = None, name: str | None = None, vllm: list[str] | None = None) -> None:
    """Serve a model."""


@verb("name ssh", "NAME SSH", iterable=["tag"])
def setup(c: Any, name: str, ssh: str | None = None, tag: list[str] | None = None) -> None:
    """Set a pod up."""


def read(task: Verb, *words: str) -> dict[str, Any]:
    return Reading("test", task, list(words)).values()


READ = [
    ("required operands come first", send, "a hello", {"name": "a", "message": ["hello"]}),
    ("an optional one takes what is left over", send, "a b hello", {"name": "a", "place": "b", "message": ["hello"]}),
    ("the rest goes to the dots", send, "a b c d", {"name": "a", "place": "b", "message": ["c", "d"]}),
    ("an operand may be left out", serve, "", {}),
    ("an operand that may be left out is taken", serve, "a/b", {"model": "a/b"}),
    ("two required operands", setup, "box host", {"name": "box", "ssh": "host"}),
    ("a flag stands before", send, "--times 3 a x", {"times": 3, "name": "a", "message": ["x"]}),
    ("a flag stands between", send, "a --times 3 x", {"times": 3, "name": "a", "message": ["x"]}),
    ("a flag stands behind", send, "a x --times 3", {"times": 3, "name": "a", "message": ["x"]}),
    ("a value after an equals sign", send, "a x --times=3", {"times": 3, "name": "a", "message": ["x"]}),
    ("a value with an equals sign", serve, "--name=a=b", {"name": "a=b"}),
    ("a value that looks like a flag", serve, "--name --vllm", {"name": "--vllm"}),
    ("an empty value", serve, "--name=", {"name": ""}),
    ("the last of two values", serve, "--name a --name b", {"name": "b"}),
    ("a switch", send, "--loud a x", {"loud": True, "name": "a", "message": ["x"]}),
    ("a switch of two words", send, "--dry-run a x", {"dry_run": True, "name": "a", "message": ["x"]}),
    ("a list grows", setup, "--tag a box --tag b host", {"tag": ["a", "b"], "name": "box", "ssh": "host"}),
    ("after -- all are operands", send, "a -- --loud -x", {"name": "a", "place": "--loud", "message": ["-x"]}),
    ("a single dash is an operand", send, "a -", {"name": "a", "message": ["-"]}),
    ("a tail is raw", serve, "a/b --vllm -tp 4 --help -- x=y --name z --vllm",
     {"model": "a/b", "vllm": ["-tp", "4", "--help", "--", "x=y", "--name", "z", "--vllm"]}),
    ("an empty tail", serve, "a/b --vllm", {"model": "a/b", "vllm": []}),
    ("a tail keeps flags before it", serve, "--name q a/b --vllm x", {"name": "q", "model": "a/b", "vllm": ["x"]}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "words", "values"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_words_are_read(task: Verb, words: str, values: dict[str, Any]) -> None:
    assert read(task, *words.split()) == values


REFUSED = [
    ("nothing at all", send, [], "name is missing"),
    ("no message", send, ["a"], "message is missing"),
    ("a second operand is missing", setup, ["box"], "ssh is missing"),
    ("an operand too many", serve, ["a", "b"], "unexpected 'b'"),
    ("an unknown flag", send, ["a", "x", "--volume", "3"], "unknown option --volume"),
    ("a near miss", send, ["a", "x", "--time", "3"], "unknown option --time (did you mean --times?)"),
    ("a short flag", send, ["a", "x", "-t", "3"], "unknown option -t"),
    ("an underscore", send, ["a", "x", "--dry_run"], "unknown option --dry_run (did you mean --dry-run?)"),
    ("no value", send, ["a", "x", "--times"], "--times needs a value"),
    ("no number", send, ["a", "x", "--times", "two"], "--times 'two' is not a whole number"),
    ("a value for a switch", send, ["a", "x", "--loud=yes"], "--loud takes no value"),
]


@pytest.mark.parametrize(("task", "words", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_words_are_refused(task: Verb, words: list[str], told: str) -> None:
    with pytest.raises(Exit) as refused:
        read(task, *words)
    assert refused.value.code == 2
    assert refused.value.message == f"pi: {told}; usage: pi test {task.usage}"


HELP = [
    ("alone", "--help", True),
    ("short", "-h", True),
    ("after operands", "a/b --help", True),
    ("before a tail", "--help --vllm x", True),
    ("in a tail it is vLLM's", "a/b --vllm --help", False),
    ("after -- it is an operand", "-- --help", False),
    ("not asked for", "a/b", False),
]


@pytest.mark.parametrize(("words", "asked"), [case[1:] for case in HELP], ids=[case[0] for case in HELP])
def test_help_is_asked_for(words: str, asked: bool) -> None:
    assert wants_help(serve, words.split()) is asked


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PI_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "sk-0123456789abcdef")
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


def run(*words: str) -> int:
    """Exit code of the whole program in this process."""
    with pytest.raises(SystemExit) as ended:
        program().run(["pi", *words])
    return int(ended.value.code or 0)


MODEL = ["start", "a/b", "--name", "q"]
WRONG = [
    ("a verb that is none", ["strat"], "no verb 'strat' (did you mean 'start'?); usage: pi VERB"),
    ("a verb like no other", ["xyzzy"], "no verb 'xyzzy'; usage: pi VERB"),
    ("a verb of pods that is none", ["pods", "actve", "x"], "(did you mean 'pods active'?); usage: pi pods"),
    ("a missing operand", ["pods", "active"], "name is missing; usage: pi pods active NAME"),
    ("a new pod without a way to it", ["pods", "setup", "box"], 'pi pods setup box "ssh root@HOST"'),
    ("an operand too many", ["list", "qwen"], "unexpected 'qwen'; usage: pi list"),
    ("a verb after another verb's operands", ["stop", "qwen", "list"], "unexpected 'list'; usage: pi stop [NAME]"),
    ("a flag that is none", ["list", "--pods", "x"], "unknown option --pods (did you mean --pod?); usage: pi list"),
    ("a flag without its value", ["list", "--pod"], "--pod needs a value; usage: pi list"),
    ("a value for a switch", ["logs", "q", "--no-follow=1"], "--no-follow takes no value; usage: pi logs"),
    ("a number that is none", ["logs", "q", "--lines", "ten"], "--lines 'ten' is not a whole number; usage: pi logs"),
    ("a start without a name", ["start", "a/b"], "--name is missing; pi start a/b --name NAME"),
    ("a number of GPUs that is none", [*MODEL, "--gpus", "two"], "--gpus 'two'"),
    ("no GPU at all", [*MODEL, "--gpus", "0"], "--gpus '0'"),
    ("a memory that is none", [*MODEL, "--memory", "lots"], "--memory 'lots'"),
    ("a context that is none", [*MODEL, "--context", "32kk"], "--context '32kk'"),
    ("a name that leaves its folder", ["start", "a/b", "--name", "../../x"], "cannot be the name of a model"),
    ("a name that is an option", ["start", "a/b", "--name", "-rf"], "cannot be the name of a model"),
    ("a name with a line break at its end", ["start", "a/b", "--name", "x\n"], "cannot be the name of a model"),
    ("a name of 64 characters", ["start", "a/b", "--name", "x" * 64], "cannot be the name of a model"),
    ("a model that is a shell command", ["start", "a/b;id", "--name", "q"], "invalid model 'a/b;id'"),
    ("an argument that is pi's own", [*MODEL, "--vllm", "--port", "1"], "may not contain --port"),
    ("an argument that opens the server", [*MODEL, "--vllm", "--middle", "x.Y"], "may not contain --middle"),
    ("a log of a name that is none", ["logs", "a/b"], "cannot be the name of a model"),
    ("a stop of a name that is none", ["stop", "a/b"], "cannot be the name of a model"),
    ("a pod's name that is none", ["pods", "setup", "a/b", "ssh h"], "cannot be the name of a pod"),
    ("an ssh command that is none", ["pods", "setup", "box", "rm -rf /"], "rm is not an ssh command"),
    ("a build that is none", ["pods", "setup", "box", "ssh h", "--vllm", "best"], "--vllm 'best' is not known"),
    ("a mount that is two", ["pods", "setup", "box", "ssh h", "--mount", "mount a /b; id"], "one plain command"),
    ("a system's folder", ["pods", "setup", "box", "ssh h", "--models-path", "/etc"], "belongs to the system"),
    ("which shell", ["--print-completion-script", "tcsh"], "usage: pi --print-completion-script bash|zsh|fish"),
    ("no pods yet", ["list"], 'no pods yet; add one: pi pods setup NAME "ssh root@HOST"'),
]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_call_is_one_line_on_stderr(
    words: list[str], told: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(*words)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert told in err
    assert err.startswith("pi: ")
    assert err.count("\n") == 1
    assert not config.exists()


def verbs() -> list[str]:
    return [spoken(name) for name in namespace().task_names]


@pytest.mark.parametrize("name", verbs())
def test_help_before_and_after_a_verb_is_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*name.split(), "--help") == 0
    after = capsys.readouterr().out
    assert run("--help", *name.split()) == 0
    assert capsys.readouterr().out == after
    assert after.startswith(f"Usage: pi {name}")


@pytest.mark.parametrize("name", namespace().task_names)
def test_every_flag_of_a_verb_is_in_its_help_with_a_word_on_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    task: Verb = namespace()[name]
    run(*spoken(name).split(), "--help")
    told = capsys.readouterr().out.split("\n\n", 1)[1]
    operands = {operand.strip("[].") for operand in task.operands}
    for argument in task.get_arguments():
        if argument.name not in operands:
            [line] = [line for line in told.splitlines() if line.split()[:1] == [f"--{argument.names[0]}"]]
            assert len(line.split(maxsplit=2 if " ..." in line else 1)) > 1, line


@pytest.mark.parametrize("name", namespace().task_names)
def test_every_flag_in_a_usage_line_exists(name: str) -> None:
    task: Verb = namespace()[name]
    written = {word.strip("[]|") for word in usage_of(name, task).replace("|", " ").split()}
    flags = {f"--{flag}" for argument in task.get_arguments() for flag in argument.names}
    assert {word for word in written if word.startswith("--")} <= flags


def test_every_verb_has_a_line_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    told = capsys.readouterr().out
    for name in verbs():
        assert [line for line in told.splitlines() if line.startswith(f"  {name}  ")], name


def test_a_verb_stays_a_task_for_invoke_and_fabric() -> None:
    collection: Collection = namespace()
    assert collection["pods.setup"].name == "setup"
    assert collection.collections["pods"].default == "list"


COMPLETED = [
    ("verbs", ["st"], {"start", "stop"}),
    ("verbs of pods", ["pods", "a"], {"active"}),
    ("pods to make active", ["pods", "active", ""], {"box", "lab"}),
    ("models to stop", ["stop", "q"], {"qwen"}),
    ("pods after --pod", ["list", "--pod", "l"], {"lab"}),
    ("flags", ["logs", "--l"], {"--lines"}),
    ("nothing after a verb that is none", ["xyzzy", ""], set()),
]


@pytest.mark.parametrize(("words", "offered"), [case[1:] for case in COMPLETED], ids=[case[0] for case in COMPLETED])
def test_the_next_word_is_completed(
    words: list[str], offered: set[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 99}
    config.mkdir()
    pods = {"box": {"ssh": "ssh h", "models": {"qwen": model}}, "lab": {"ssh": "ssh l"}}
    (config / "pods.json").write_text(json.dumps({"pods": pods}))
    assert run("--complete", "--", *words) == 0
    assert set(capsys.readouterr().out.split()) == offered


def test_completion_is_quiet_about_a_broken_state(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.mkdir()
    (config / "pods.json").write_text("{")
    assert run("--complete", "--", "stop", "") == 0
    assert capsys.readouterr().err == ""


def test_the_program_is_an_invoke_program() -> None:
    assert isinstance(program(), Pi)
    assert set(namespace().task_names) == set(VERBS)
