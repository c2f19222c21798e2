"""The command line: operands, flags, raw tails, wrong calls, help and completion."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import MISSING, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from invoke import Collection, Context, Exit

from pi.cli.help import short_usage_of, typed, usage_of
from pi.cli.meanings import MEANINGS, OF_PODS
from pi.cli.program import Pi, program
from pi.cli.words import Reading, wants_help
from pi.errors import InputError
from pi.fabric_tasks import VERBS, namespace
from pi.fabric_tasks.flags import (
    Options,
    choice,
    declared_by,
    flag,
    flags_of,
    operand,
    operands_of,
    options_from,
    repeated,
    switch,
    tail,
    words_of,
)
from pi.fabric_tasks.verb import Verb, verb


@dataclass(frozen=True)
class SendOptions(Options):
    name: str = operand("NAME", "who", required=True)
    place: str | None = operand("[PLACE]", "where")
    message: tuple[str, ...] = operand("MESSAGE...", "what", required=True, takes_rest=True)
    times: int = flag("N", "how often", 1, short="-n")
    loud: bool = switch("shout", short="-l")
    dry_run: bool = switch("say nothing")


@verb(SendOptions)
def send(c: Any, options: SendOptions) -> None:
    """Send a message."""


@dataclass(frozen=True)
class ServeOptions(Options):
    model: str | None = operand("MODEL", "which")
    name: str | None = flag("N", "its name")
    env: tuple[str, ...] = repeated("X=Y", "a variable")
    vllm: tuple[str, ...] = tail("RAW...", "for vLLM")


@verb(ServeOptions, remark="(alone: lists)")
def serve(c: Any, options: ServeOptions) -> None:
    """Serve a model."""


@dataclass(frozen=True)
class ClearOptions(Options):
    name: str | None = operand("[NAME]", "which")
    yes: bool = switch("do not ask", short="-y")


@verb(ClearOptions)
def clear(c: Any, options: ClearOptions) -> None:
    """Clear a table."""


@dataclass(frozen=True)
class SetupOptions(Options):
    name: str = operand("NAME", "who", required=True)
    ssh: str = operand("SSH", "how", required=True, is_command=True)
    kind: str | None = choice(("old", "new"), "which one")
    for_: str | None = flag("X", "what for")
    beside: bool = switch("beside it", requires="--for")
    json: bool = switch("as JSON")
    quiet: bool = switch("say little", excludes="--json")


@verb(SetupOptions)
def setup(c: Any, options: SetupOptions) -> None:
    """Set a pod up."""


def read(task: Verb, *words: str) -> dict[str, Any]:
    return Reading("test", task, list(words)).values()


READ = [
    ("required operands come first", send, "a hello", {"name": "a", "message": ["hello"]}),
    ("an optional operand takes the spare word", send, "a b hello", {"name": "a", "place": "b", "message": ["hello"]}),
    ("the last operand takes the rest", send, "a b c d", {"name": "a", "place": "b", "message": ["c", "d"]}),
    ("an optional operand is missing", serve, "", {}),
    ("an optional operand is given", serve, "a/b", {"model": "a/b"}),
    ("two required operands", setup, "box host", {"name": "box", "ssh": "host"}),
    ("a flag before the operands", send, "--times 3 a x", {"times": 3, "name": "a", "message": ["x"]}),
    ("a flag between operands", send, "a --times 3 x", {"times": 3, "name": "a", "message": ["x"]}),
    ("a flag after the operands", send, "a x --times 3", {"times": 3, "name": "a", "message": ["x"]}),
    ("a value after an equals sign", send, "a x --times=3", {"times": 3, "name": "a", "message": ["x"]}),
    ("a value with an equals sign", serve, "--name=a=b", {"name": "a=b"}),
    ("a value that looks like a flag", serve, "--name --vllm", {"name": "--vllm"}),
    ("the last of two values", serve, "--name a --name b", {"name": "b"}),
    ("each value of a repeated flag", serve, "--env A=1 a/b --env=B=2 --env -x",
     {"model": "a/b", "env": ["A=1", "B=2", "-x"]}),
    ("a switch", send, "--loud a x", {"loud": True, "name": "a", "message": ["x"]}),
    ("a switch in its short form", clear, "-y a", {"yes": True, "name": "a"}),
    ("a switch in its long form", clear, "a --yes", {"yes": True, "name": "a"}),
    ("a switch of two words", send, "--dry-run a x", {"dry_run": True, "name": "a", "message": ["x"]}),
    ("a short flag with its value", send, "a -n 3 x", {"times": 3, "name": "a", "message": ["x"]}),
    ("a short flag without a space", send, "a -n3 x", {"times": 3, "name": "a", "message": ["x"]}),
    ("two short flags in one word", send, "a -ln3 x", {"loud": True, "times": 3, "name": "a", "message": ["x"]}),
    ("only operands after --", send, "a -- --loud -x", {"name": "a", "place": "--loud", "message": ["-x"]}),
    ("a single dash is an operand", send, "a -", {"name": "a", "message": ["-"]}),
    ("a tail is raw", serve, "a/b --vllm -tp 4 --help -- x=y --name z --vllm",
     {"model": "a/b", "vllm": ["-tp", "4", "--help", "--", "x=y", "--name", "z", "--vllm"]}),
    ("an empty tail", serve, "a/b --vllm", {"model": "a/b", "vllm": []}),
    ("a command without quotes", setup, "box ssh -p 22 a@h -o x=y", {"name": "box", "ssh": "ssh -p 22 a@h -o x=y"}),
    ("a command between flags", setup, "--kind old box ssh a@h -p 22 --json",
     {"kind": "old", "name": "box", "ssh": "ssh a@h -p 22", "json": True}),
    ("flags before a tail", serve, "--name q a/b --vllm x", {"name": "q", "model": "a/b", "vllm": ["x"]}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "words", "values"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_words_become_values(task: Verb, words: str, values: dict[str, Any]) -> None:
    assert read(task, *words.split()) == values


def test_words_of_a_command_without_quotes_keep_their_own_quotes() -> None:
    values = read(setup, "box", "ssh", "-o", "ProxyCommand=ssh -W %h:%p j", "a@h")
    assert values["ssh"] == "ssh -o 'ProxyCommand=ssh -W %h:%p j' a@h"


REJECTED = [
    ("words after a quoted command", setup, ["box", "ssh a@h", "-p", "22"], "unknown option -p"),
    ("no words", send, [], "name is missing"),
    ("no message", send, ["a"], "message is missing"),
    ("one operand of two", setup, ["box"], "ssh is missing"),
    ("one operand too many", serve, ["a", "b"], "unexpected 'b'"),
    ("an unknown flag", send, ["a", "x", "--volume", "3"], "unknown option --volume"),
    ("a near miss", send, ["a", "x", "--time", "3"], "unknown option --time (did you mean --times?)"),
    ("a short flag", send, ["a", "x", "-t", "3"], "unknown option -t"),
    ("an underscore", send, ["a", "x", "--dry_run"], "unknown option --dry_run (did you mean --dry-run?)"),
    ("a flag without its value", send, ["a", "x", "--times"], "--times needs a value"),
    ("an empty value", serve, ["--name="], "--name has an empty value"),
    ("an empty operand, as from an unset variable", serve, [""], "model is empty"),
    ("an empty operand among others", send, ["", "x"], "name is empty"),
    ("a word instead of a number", send, ["a", "x", "--times", "two"], "--times 'two' is not a whole number"),
    ("a value for a switch", send, ["a", "x", "--loud=yes"], "--loud takes no value"),
]


@pytest.mark.parametrize(("task", "words", "told"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
def test_wrong_words_are_rejected(task: Verb, words: list[str], told: str) -> None:
    with pytest.raises(Exit) as rejected:
        read(task, *words)
    assert rejected.value.code == 2
    assert rejected.value.message == f"pi: {told}; usage: {short_usage_of('test', task)}"


HELP = [
    ("alone", "--help", True),
    ("short", "-h", True),
    ("after operands", "a/b --help", True),
    ("before a tail", "--help --vllm x", True),
    ("in a tail, for vLLM", "a/b --vllm --help", False),
    ("after --, an operand", "-- --help", False),
    ("no help", "a/b", False),
]


@pytest.mark.parametrize(("words", "asked"), [case[1:] for case in HELP], ids=[case[0] for case in HELP])
def test_words_that_ask_for_help(words: str, asked: bool) -> None:
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
    ("an unknown verb", ["strat"], "no verb 'strat' (did you mean 'start'?); usage: pi VERB"),
    ("a verb without a near match", ["xyzzy"], "no verb 'xyzzy'; usage: pi VERB"),
    ("an unknown verb of pods", ["pods", "actve", "x"], "(did you mean 'pods active'?); usage: pi pods"),
    ("a missing operand", ["pods", "active"], "name is missing; usage: pi pods active NAME"),
    ("a new pod without an ssh command", ["pods", "setup", "box"], 'pi pods setup box "ssh root@HOST"'),
    ("one operand too many", ["list", "qwen"], "unexpected 'qwen'; usage: pi list"),
    ("a verb after another verb's operands", ["stop", "qwen", "list"], "unexpected 'list'; usage: pi stop [NAME]"),
    ("a flag of other programs", ["logs", "qwen", "--tail", "5"], "unknown option --tail (did you mean --lines?)"),
    ("a flag before the verb", ["-p", "dc1", "list"], "-p comes before the verb; usage: pi VERB -p ..."),
    ("a verb of other programs for completion", ["completion", "zsh"], "(did you mean --install-completion?)"),
    ("an unknown flag", ["list", "--pods", "x"], "unknown option --pods (did you mean --pod?); usage: pi list"),
    ("a flag without its value", ["list", "--pod"], "--pod needs a value; usage: pi list"),
    ("a value for a switch", ["logs", "q", "--no-follow=1"], "--no-follow takes no value; usage: pi logs"),
    ("a word instead of a number", ["logs", "q", "--lines", "ten"], "--lines 'ten' is not a whole number; usage: pi logs"),
    ("a start without a name", ["start", "a/b"], "--name is missing; pi start a/b --name NAME"),
    ("a word instead of a number of GPUs", [*MODEL, "--gpus", "two"], "--gpus 'two'"),
    ("zero GPUs", [*MODEL, "--gpus", "0"], "--gpus '0'"),
    ("a word instead of a share of memory", [*MODEL, "--memory", "lots"], "--memory 'lots'"),
    ("an invalid context", [*MODEL, "--context", "32kk"], "--context '32kk'"),
    ("a name with ..", ["start", "a/b", "--name", "../../x"], "invalid model name"),
    ("a name that is an option", ["start", "a/b", "--name", "-rf"], "invalid model name"),
    ("a name with a line break at its end", ["start", "a/b", "--name", "x\n"], "invalid model name"),
    ("a name of 64 characters", ["start", "a/b", "--name", "x" * 64], "invalid model name"),
    ("a model that is a shell command", ["start", "a/b;id", "--name", "q"], "invalid model 'a/b;id'"),
    ("a raw argument that pi sets", [*MODEL, "--vllm", "--port", "1"], "may not contain --port"),
    ("a raw argument that opens the server", [*MODEL, "--vllm", "--middle", "x.Y"], "may not contain --middle"),
    ("the log of an invalid name", ["logs", "a/b"], "invalid model name"),
    ("a stop of an invalid name", ["stop", "a/b"], "invalid model name"),
    ("an ssh command without a pod's name", ["pods", "setup", "ssh", "a@h", "-p", "22"],
     "the pod has no name; pi pods setup NAME 'ssh a@h -p 22'"),
    ("a quoted ssh command without a pod's name", ["pods", "setup", "ssh a@h"], "pi pods setup NAME 'ssh a@h'"),
    ("an address of an unknown pod", ["pods", "address", "box", "ssh h"], "unknown pod 'box'"),
    ("an invalid pod name", ["pods", "setup", "a/b", "ssh h"], "invalid pod name"),
    ("not an ssh command", ["pods", "setup", "box", "rm -rf /"], "rm is not an ssh command"),
    ("an unknown kind of vLLM", ["pods", "setup", "box", "ssh h", "--vllm", "best"], "invalid --vllm 'best'"),
    ("a price that is not one", ["pods", "setup", "box", "ssh h", "--price", "cheap"], "invalid --price 'cheap'"),
    ("two mount commands", ["pods", "setup", "box", "ssh h", "--mount", "mount a /b; id"], "one plain command"),
    ("a system folder", ["pods", "setup", "box", "ssh h", "--models-path", "/etc"], "is a system directory"),
    ("an unknown shell", ["--print-completion-script", "tcsh"], "usage: pi --print-completion-script bash|zsh|fish"),
    ("no pods yet", ["list"], 'no pods yet; add one: pi pods setup NAME "ssh root@HOST"'),
]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_call_prints_one_line_on_stderr(
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
    return [typed(name) for name in namespace().task_names]


@pytest.mark.parametrize("name", verbs())
def test_help_before_and_after_a_verb_is_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*name.split(), "--help") == 0
    after = capsys.readouterr().out
    assert run("--help", *name.split()) == 0
    assert capsys.readouterr().out == after
    assert after.startswith(f"Usage: pi {name}")


@pytest.mark.parametrize("name", namespace().task_names)
def test_a_verbs_help_explains_every_flag_and_operand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    task: Verb = namespace()[name]
    run(*typed(name).split(), "--help")
    printed = " ".join(capsys.readouterr().out.split("\n\n", 1)[1].split())
    for each in declared_by(task.options):
        assert f"{each.explained} {each.help}" in printed and each.help != ""


@pytest.mark.parametrize("words", ["", *verbs()])
def test_help_fits_80_columns(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*words.split(), "--help")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("name", namespace().task_names)
def test_a_verb_has_examples_that_it_can_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    task: Verb = namespace()[name]
    run(*typed(name).split(), "--help")
    printed = capsys.readouterr().out
    assert task.examples
    for example in task.examples:
        assert f"\n  {example}\n" in printed
        inner = re.search(r"\$\((.*)\)", example)
        lexer = shlex.shlex(inner[1] if inner else example, posix=True, punctuation_chars="|&>")
        lexer.whitespace_split = True
        groups = [list(group) for is_word, group in groupby(lexer, lambda word: word[0] not in "|&>") if is_word]
        [words] = [group for group in groups if group[: 1 + len(typed(name).split())] == ["pi", *typed(name).split()]]
        options_from(task.options, Reading(name, task, words[1 + len(typed(name).split()) :]).values())


def test_help_is_wrapped_to_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    longest = {}
    for columns in (50, 100):
        monkeypatch.setattr("pi.screen.width", lambda columns=columns: columns)
        run("stop", "--help")
        longest[columns] = max(map(len, capsys.readouterr().out.splitlines()))
    assert longest[50] <= 50 < longest[100] <= 100


@pytest.mark.parametrize("words", [["help"], ["help", "stop"], ["version"]])
def test_help_and_version_are_words_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 0
    out = capsys.readouterr().out
    run(f"--{words[0]}", *words[1:])
    assert capsys.readouterr().out == out != ""


MEANT = [
    ("ls", "list"), ("ps", "list"), ("status", "list"), ("rm", "stop"), ("kill", "stop"), ("run", "start"),
    ("serve", "start"), ("add", "pods setup"), ("use", "pods active"), ("chat", "prompt"), ("lst", "list"),
    ("pods add", "pods setup"), ("pods ls", "pods"), ("pods rm", "pods remove"), ("pods use", "pods active"),
    ("key rm", "key revoke"), ("key new", "key add"), ("key ls", "key list"), ("keys", "key list"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "verb"), MEANT)
def test_a_verb_of_another_program_leads_to_pis(words: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words.split()) == 2
    assert f"no verb {words!r} (did you mean {verb!r}?)" in capsys.readouterr().err


def test_every_meaning_is_a_verb() -> None:
    assert {*MEANINGS, *OF_PODS} <= set(verbs())


def test_a_wrong_call_of_a_verb_with_many_flags_prints_a_short_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("start", "a/b", "--contxt", "3") == 2
    told = capsys.readouterr().err
    assert "unknown option --contxt (did you mean --context?)" in told
    assert told.endswith("usage: pi start MODEL --name N [OPTIONS]; see: pi start --help\n")


@pytest.mark.parametrize("name", namespace().task_names)
def test_usage_line_names_every_flag_and_operand_once(name: str) -> None:
    task: Verb = namespace()[name]
    words = usage_of(name, task).replace("[", " ").replace("]", " ").replace("|", " ").split()
    assert [words.count(each.name) for each in flags_of(task.options)] == [1] * len(flags_of(task.options))
    assert all(each.written in usage_of(name, task) for each in operands_of(task.options))


def test_a_command_after_two_dashes_ends_the_usage_line() -> None:
    assert usage_of("ssh", namespace()["ssh"]) == "pi ssh [--pod P[,P]|--all-pods] -- COMMAND..."


USAGES = [
    (send, "pi x NAME [PLACE] MESSAGE... [--times N] [--loud] [--dry-run]"),
    (clear, "pi x [NAME] [--yes]"),
    (serve, "pi x MODEL [--name N] [--env X=Y]... [--vllm RAW...]   (alone: lists)"),
    (setup, "pi x NAME SSH [--kind old|new] [--for X [--beside]] [--json|--quiet]"),
]


@pytest.mark.parametrize(
    ("task", "usage"), USAGES, ids=["operands", "short", "tail and remark", "flags that belong together"]
)
def test_usage_line_is_made_of_the_declaration(task: Verb, usage: str) -> None:
    assert usage_of("x", task) == usage


@pytest.mark.parametrize("name", namespace().task_names)
def test_invoke_has_an_argument_for_each_flag_and_operand(name: str) -> None:
    task: Verb = namespace()[name]
    declared = {each.attribute: each for each in declared_by(task.options)}
    task.get_arguments()  # Invoke's own empties the help texts; those of the second call must have them too
    arguments = {argument.attr_name or argument.name: argument for argument in task.get_arguments()}
    assert arguments.keys() == declared.keys()
    for attribute, argument in arguments.items():
        each = declared[str(attribute)]
        assert argument.kind is (list if each.is_list else getattr(each, "kind", str)), attribute
        assert argument.positional is (each.default is MISSING), attribute
        assert argument.help == each.help, attribute


def test_a_task_called_from_python_takes_operands_and_flags() -> None:
    calls = []

    @verb(SendOptions)
    def task(c: Any, options: SendOptions) -> None:
        calls.append(options)

    task(Context(), "ann", message=["a", "b"], times=2)
    assert calls == [SendOptions(name="ann", message=("a", "b"), times=2)]


def test_a_list_called_from_python_may_be_one_word() -> None:
    assert options_from(ServeOptions, {"env": "A=1"}) == ServeOptions(env=("A=1",))
    assert options_from(ServeOptions, {"env": ["A=1", "B=2"], "vllm": None}) == ServeOptions(env=("A=1", "B=2"))


COMBINED = [
    ("a value that is not a choice", {"kind": "best"}, "invalid --kind 'best'"),
    ("a flag without the one it requires", {"beside": True}, "--beside requires --for"),
    ("two flags that exclude each other", {"json": True, "quiet": True}, "--json and --quiet cannot be used together"),
]


@pytest.mark.parametrize(("values", "message"), [case[1:] for case in COMBINED], ids=[case[0] for case in COMBINED])
def test_flags_that_do_not_go_together_are_rejected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as rejected:
        options_from(SetupOptions, {"name": "box", "ssh": "host", **values})
    assert rejected.value.message == message


def test_flags_can_be_typed_again() -> None:
    options = SetupOptions(name="box", ssh="host", kind="new", for_="a b", beside=True)
    assert words_of(options) == ["--kind", "new", "--for", "a b", "--beside"]
    assert words_of(ServeOptions(name="q", vllm=("--tp", "4"))) == ["--name", "q", "--vllm", "--tp", "4"]
    assert words_of(ServeOptions(env=("A=1", "B=2"))) == ["--env", "A=1", "--env", "B=2"]


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
    ("verbs of pods", ["pods", "a"], {"active", "address"}),
    ("pods to make active", ["pods", "active", ""], {"box", "lab"}),
    ("the pod to rename, not its new name", ["pods", "rename", "box", ""], set()),
    ("models to stop", ["stop", "q"], {"qwen"}),
    ("models to stop without a question", ["stop", "-y", "q"], {"qwen"}),
    ("pods after --pod", ["list", "--pod", "l"], {"lab"}),
    ("flags", ["logs", "--l"], {"--lines"}),
    ("no flag twice", ["logs", "--lines", "3", "--l"], set()),
    ("a value after an equals sign", ["list", "--pod=l"], {"--pod=lab"}),
    ("a second pod after a comma", ["list", "-p", "box,"], {"box,lab"}),
    ("a value after a short flag", ["list", "-p", "l"], {"lab"}),
    ("no more names than the verb takes", ["stop", "qwen", ""], set()),
    ("the models of the typed pod", ["stop", "--pod", "lab", ""], set()),
    ("model ids", ["start", "openai/gpt-oss-2"], {"openai/gpt-oss-20b"}),
    ("variants of a model", ["plan", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "--variant", "b"], {"bf16"}),
    ("numbers of GPUs of the pod", ["start", "a/b", "--gpus", ""], {"1", "2"}),
    ("verbs after help", ["help", "pods", "re"], {"remove", "rename"}),
    ("nothing for vLLM's own words", ["start", "a/b", "--vllm", "--no"], set()),
    ("shells", ["--install-completion", "f"], {"fish"}),
    ("choices of a flag", ["prompt", "qwen", "--api", ""], {"chat", "responses"}),
    ("nothing after an unknown verb", ["xyzzy", ""], set()),
    ("models to connect to", ["connect", ""], {"qwen"}),
    ("clients", ["connect", "qwen", "--to", "co"], {"codex", "continue"}),
    ("pods of top", ["top", "-p", ""], {"box", "lab"}),
    ("models to measure", ["bench", ""], {"qwen"}),
    ("verbs of door", ["door", "st"], {"status", "stop"}),
    ("models that stay", ["door", "--pin", ""], {"qwen"}),
    ("models to move", ["move", ""], {"qwen"}),
    ("pods to move to", ["move", "qwen", ""], {"box", "lab"}),
    ("models to scale", ["scale", ""], {"qwen"}),
    ("ids to pull", ["pull", "openai/gpt-oss-2"], {"openai/gpt-oss-20b"}),
    ("verbs of cache", ["cache", ""], {"list", "rm"}),
    ("flags of up", ["up", "--"], {"--dry-run", "--help"}),
    ("flags of down", ["down", "--d"], {"--dry-run"}),
    ("pods to export", ["export", "-p", "box,"], {"box,lab"}),
    ("pods to check", ["doctor", ""], {"box", "lab"}),
    ("models to restart", ["restart", ""], {"qwen"}),
    ("models to wait for", ["wait", ""], {"qwen"}),
    ("verbs of key", ["key", ""], {"add", "list", "revoke", "show"}),
    ("more models for tunnels", ["tunnel", "qwen", ""], {"qwen"}),
    ("flags of tunnel", ["tunnel", "--l"], {"--list"}),
]


@pytest.mark.parametrize(("words", "offered"), [case[1:] for case in COMPLETED], ids=[case[0] for case in COMPLETED])
def test_the_next_word_is_completed(
    words: list[str], offered: set[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 99}
    config.mkdir()
    gpus = [{"id": number, "name": "L4", "memory": "24GB"} for number in range(3)]
    pods = {"box": {"ssh": "ssh h", "gpus": gpus, "models": {"qwen": model}}, "lab": {"ssh": "ssh l"}}
    (config / "pods.json").write_text(json.dumps({"pods": pods}))
    assert run("--complete", "--", *words) == 0
    assert set(capsys.readouterr().out.split()) == offered


SPLIT_BY_BASH = [
    ("a value after an equals sign", ["list", "--pod", "=", "l"], {"lab"}),
    ("no value yet", ["list", "--pod", "="], {"box", "lab"}),
    ("a word before another", ["logs", "--lines", "=", "3", "q"], {"qwen"}),
]


@pytest.mark.parametrize(("words", "offered"), [case[1:] for case in SPLIT_BY_BASH])
def test_words_that_bash_splits_are_completed(
    words: list[str], offered: set[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 99}
    config.mkdir()
    pods = {"box": {"ssh": "ssh h", "models": {"qwen": model}}, "lab": {"ssh": "ssh l"}}
    (config / "pods.json").write_text(json.dumps({"pods": pods}))
    assert run("--complete", "bash", "--", *words) == 0
    assert set(capsys.readouterr().out.split()) == offered


def test_completion_offers_no_word_that_a_shell_would_read_otherwise(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.mkdir()
    pods = {name: {"ssh": "ssh h"} for name in ("good", "$(id)", "a;b", "x y", "*")}
    (config / "pods.json").write_text(json.dumps({"pods": pods}))
    run("--complete", "--", "list", "-p", "")
    assert set(capsys.readouterr().out.split()) <= {"good"}


def test_completion_is_quiet_about_a_broken_state(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.mkdir()
    (config / "pods.json").write_text("{")
    assert run("--complete", "--", "stop", "") == 0
    assert capsys.readouterr().err == ""


def test_the_program_is_an_invoke_program() -> None:
    assert isinstance(program(), Pi)
    assert set(namespace().task_names) == set(VERBS)
