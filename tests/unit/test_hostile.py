"""Hostile values for every input: pi takes each exactly, or rejects it in one clean line.

These tests need no pod; some use a real bash. tests/ssh/test_hostile.py has the others.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi import addresses, screen, text
from pi.calls.templates import render
from pi.cli.program import program
from pi.errors import InputError, PiError, UnreachableError
from pi.model_id import ModelId
from pi.planning import amounts, catalog, serve
from pi.planning.types import LaunchPlan
from pi.pods import file_format, gpus, state
from pi.pods.types import check_name
from pi.setup import mounts
from pi.ssh import openssh, target
from pi.steps import keys
from pi.vllm import raw_arguments
from pi.vllm.arguments import Arguments
from tests.rig.cases import share
from tests.rig.hostile import CANARY, VALUES, is_clean

TEXTS = st.text(max_size=40) | st.sampled_from(VALUES)
FOR_A_SHELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
"""Texts that a program can receive as an argument or a variable."""

WORDS = [value for value in VALUES if "\0" not in value and raw_arguments.unusable(value) != "bytes that are not UTF-8"]
ONE = "0, NVIDIA H100 80GB HBM3, 81559, 4, GPU-1f0c0e3a-0000-0000-0000-000000000001, 9.0, 580.65.06"


def test_there_are_two_hundred_values_and_a_huge_one() -> None:
    assert len(VALUES) >= 200 and len(VALUES[-1].encode()) >= 100_000
    assert sum(CANARY in value for value in VALUES) >= 60


def clean_refusal(error: PiError, value: str) -> None:
    message = error.render()
    assert is_clean(message) and "\n" not in message and len(message) < 1400, value


# --- accepted values


def pod_name(value: str) -> None:
    assert re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,62}", check_name(value, "pod"))


def model(value: str) -> None:
    taken = ModelId.parse(value)
    if taken.startswith(("/", "~/")):
        assert taken.isprintable() and ".." not in taken.split("/") and len(taken) <= 1024
        assert os.path.normpath(value) == taken
    else:
        assert taken == value and re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?", taken)


def directory(value: str) -> None:
    taken = mounts.directory(value, "--models-path")
    assert taken == "/" + os.path.normpath(value).lstrip("/") and taken.isprintable() and taken.count("/") > 0
    assert taken.split("/")[1] not in ("etc", "dev", "proc", "sys", "bin", "lib", "boot")


def mount(value: str) -> None:
    taken = mounts.parse(value)
    words = shlex.split(value)
    assert list(taken.words) == (words[1:] if words[0] == "sudo" else words)
    assert taken.target.startswith("/") and "\n" not in " ".join(taken.words)


def ssh(value: str) -> None:
    taken = target.parse(value)
    if isinstance(taken, target.SshTarget):
        again = target.parse(shlex.join(["ssh", *taken.ssh_words()]))
        assert isinstance(again, target.SshTarget) and again.host == taken.host
        assert not set(taken.host + (taken.user or "")) & set("'\"`$\\;&<>|(){} \n")


def raw_argument(value: str) -> None:
    raw_arguments.check_raw(Arguments.parse([value]))
    value.encode()
    assert "\n" not in value and "\0" not in value


READERS: dict[str, Callable[[str], None]] = {
    "a name": pod_name,
    "a model": model,
    "a model of an owner": lambda value: model(f"owner/{value}"),
    "a model's path": lambda value: model(f"/models/{value}"),
    "a model's path at home": lambda value: model(f"~/{value}"),
    "a models path": directory,
    "a models path below another": lambda value: directory(f"/mnt/{value}"),
    "a mount command": mount,
    "a mount's option": lambda value: mount(f"mount -t nfs -o {shlex.quote(value)} host:/x /mnt/m"),
    "a mount's source": lambda value: mount(f"mount {shlex.quote(value)} /mnt/m"),
    "a mount's target": lambda value: mount(f"sudo mount host:/x {shlex.quote(value)}"),
    "a mount's last words": lambda value: mount(f"mount host:/x /mnt/m {value}"),
    "an ssh command": ssh,
    "a host": lambda value: ssh(f"ssh root@{value}"),
    "a user": lambda value: ssh(f"ssh -l {shlex.quote(value)} host"),
    "a port": lambda value: ssh(f"ssh -p {shlex.quote(value)} host"),
    "a key file": lambda value: ssh(f"ssh -i {shlex.quote(value)} host"),
    "a jump": lambda value: ssh(f"ssh -J {shlex.quote(value)} host"),
    "an ssh option": lambda value: ssh(f"ssh -o {shlex.quote(value)} host"),
    "words after the host": lambda value: ssh(f"ssh host {value}"),
    "a raw argument": raw_argument,
    "a context": lambda value: assert_between(1, amounts.parse_context(value), amounts.MAX_CONTEXT),
    "a share of memory": lambda value: assert_between(0.01, amounts.parse_memory(value), 0.95),
}


def assert_between(low: float, value: float, high: float) -> None:
    assert low <= value <= high


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_hostile_value_is_taken_exactly_or_rejected(read: Callable[[str], None]) -> None:
    for value in VALUES:
        try:
            read(value)
        except InputError as refusal:
            clean_refusal(refusal, value)


@settings(deadline=None)
@given(st.sampled_from(sorted(READERS)), TEXTS)
def test_any_text_is_taken_or_rejected(place: str, value: str) -> None:
    try:
        READERS[place](value)
    except InputError as refusal:
        clean_refusal(refusal, value)


@pytest.mark.parametrize("variable", ["PI_API_KEY", "HF_TOKEN"])
def test_a_secret_is_taken_whole_or_rejected_unseen(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = {"PI_API_KEY": keys.api_key, "HF_TOKEN": keys.hf_token}[variable]
    for value in (f"{padding}{value}" for value in VALUES for padding in ("", "sk-0123456789abcdef")):
        if variable == "PI_API_KEY" and value.startswith("!"):
            continue  # the user's own command (tests/unit/steps/test_keys.py)
        try:
            monkeypatch.setenv(variable, value)
        except (ValueError, UnicodeEncodeError):
            continue  # no environment can hold it
        try:
            found = read()
            assert found == value or (variable == "HF_TOKEN" and found is None and not value.strip())
            assert found is None or (value.isascii() and value.isprintable() and " " not in value)
        except InputError as refusal:
            clean_refusal(refusal, value)
            assert len(value) < 8 or value not in refusal.render()


# --- the whole command, until it would contact a pod


PLACES: dict[str, list[str]] = {
    "a verb": ["@"],
    "a verb of pods": ["pods", "@"],
    "an option": ["list", "--@"],
    "the name of a new pod": ["pods", "setup", "@", "ssh root@192.0.2.1"],
    "an ssh command": ["pods", "setup", "lab", "@"],
    "a mount": ["pods", "setup", "lab", "ssh root@192.0.2.1", "--mount", "@"],
    "a models path": ["pods", "setup", "lab", "ssh root@192.0.2.1", "--models-path=@"],
    "a kind of vLLM": ["pods", "setup", "lab", "ssh root@192.0.2.1", "--vllm", "@"],
    "a model to be fast enough for": ["pods", "setup", "lab", "ssh root@192.0.2.1", "--for", "@"],
    "a pod to choose": ["pods", "active", "@"],
    "a pod to forget": ["pods", "remove", "@"],
    "a model": ["start", "--name", "q", "--", "@"],
    "a name": ["start", "a/b", "--name", "@"],
    "a pod": ["start", "a/b", "--name", "q", "--pod", "@"],
    "a context": ["start", "a/b", "--name", "q", "--context", "@"],
    "a share": ["start", "a/b", "--name", "q", "--memory", "@"],
    "a number of GPUs": ["start", "a/b", "--name", "q", "--gpus", "@"],
    "a raw argument": ["start", "a/b", "--name", "q", "--vllm", "@"],
    "a setting": ["start", "a/b", "--name", "q", "--set", "@"],
    "the value of a setting": ["start", "a/b", "--name", "q", "--set", "hf-overrides.x=@"],
    "a variable": ["start", "a/b", "--name", "q", "--env", "NCCL_DEBUG=@"],
    "an adapter": ["start", "a/b", "--name", "q", "--lora", "a=@"],
    "a model to stop": ["stop", "--", "@"],
    "a log": ["logs", "--", "@"],
    "a number of lines": ["logs", "q", "--lines", "@"],
    "a model to ask": ["prompt", "--", "@", "hello"],
    "a model to plan": ["plan", "--", "@"],
}
EXPECTED = {0, 2, 3}
"""Exit codes: success, rejected, or pod unreachable, because these tests block all connections."""


def run(*words: str) -> int:
    """Run a whole pi command and return its exit code."""
    try:
        program().run(["pi", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def models() -> catalog.Catalog:
    return catalog.load(Path("/nowhere"))


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: catalog.Catalog) -> Path:
    """A directory with a config dir with one pod. Every attempt to reach that pod fails."""
    for name, value in {
        "PI_CONFIG_DIR": str(tmp_path / "c"),
        "PI_API_KEY": "sk-0123456789abcdef",
        "HF_TOKEN": "none",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "pods.json").write_text(
        json.dumps({"pods": {"box": {"ssh": "ssh root@192.0.2.1"}}, "active": "box"})
    )

    def away(*_: Any, **__: Any) -> NoReturn:
        raise UnreachableError("x", "away")

    monkeypatch.setattr(catalog, "load", lambda folder: models)
    monkeypatch.setattr(openssh, "way_to", away)
    monkeypatch.setattr(socket.socket, "connect", away)
    monkeypatch.setattr(subprocess, "Popen", away)
    return tmp_path


@pytest.mark.parametrize("place", PLACES)
def test_a_command_rejects_a_value_or_contacts_the_pod(
    place: str, laptop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = PLACES[place]
    before = (laptop / "c" / "pods.json").read_bytes()
    for value in share(VALUES, place):
        if "\0" in value:
            continue  # no command line can hold it
        code = run(*(word.replace("@", value) if word.endswith("@") else word for word in words))
        printed = capsys.readouterr()
        assert code in EXPECTED, (value, printed.err)
        assert is_clean(printed.out) and is_clean(printed.err), value
        assert code != 2 or (printed.err.count("\n") == 1 and printed.err.startswith("pi: ")), (value, printed.err)
        assert "Traceback" not in printed.err and "bug in pi" not in printed.err
    assert (laptop / "c" / "pods.json").read_bytes() == before
    assert sorted(path.name for path in laptop.iterdir()) == ["c"]


# --- the files that pi renders, run by a real bash


def launched(
    home: Path, argv: list[str], environment: dict[str, str], name: str = "q"
) -> tuple[list[str], dict[str, str]]:
    """Run the launcher with a stand-in for `vllm`. Returns the arguments and environment that it received."""
    run = home / ".pi" / "run" / name
    run.mkdir(parents=True, exist_ok=True)
    (run / "key").write_text("sk-0123456789abcdef")
    program = home / "venv" / "bin" / "vllm"
    if not program.exists():
        program.parent.mkdir(parents=True)
        program.write_text('#!/bin/bash\nprintf "%s\\0" "$@" >~/argv\ncat /proc/$$/environ >~/environ\n')
        program.chmod(0o755)
    values = {"name": name, "instance": "i", "venv": "venv", "environment": environment, "argv": ["vllm", *argv]}
    script = render("launch.sh.j2", **values, port=8001, restarts=0, idle_s=None, on_idle="", watch=False, peers=[])
    (run / "launch.sh").write_bytes(script.encode())
    subprocess.run(["bash", run / "launch.sh"], env={"HOME": str(home), "PATH": os.environ["PATH"]}, cwd=home,
                   check=True, capture_output=True, start_new_session=True, timeout=60)  # fmt: skip
    words = (home / "argv").read_bytes().decode().split("\0")[:-1]
    entries = (home / "environ").read_bytes().decode().split("\0")[:-1]
    return words, dict(entry.split("=", 1) for entry in entries)


def test_the_launcher_passes_every_value_exactly(tmp_path: Path) -> None:
    variables = {f"V{number}": value for number, value in enumerate(WORDS)}
    words, environment = launched(tmp_path, ["serve", "org/model", *WORDS], variables)
    assert words == ["serve", "org/model", *WORDS]
    assert {name: environment[name] for name in variables} == variables
    assert environment["VLLM_API_KEY"] == "sk-0123456789abcdef"
    assert not list(tmp_path.rglob(CANARY))


@settings(max_examples=40, deadline=None)
@given(words=st.lists(FOR_A_SHELL, max_size=8), value=FOR_A_SHELL)
def test_the_launcher_passes_any_text_exactly(
    words: list[str], value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    received, environment = launched(home, ["serve", "org/model", *words], {"VALUE": value})
    assert received == ["serve", "org/model", *words]
    assert environment["VALUE"] == value


def sourced(shell: str, folder: Path, token: str, key: str) -> list[str]:
    """Return HF_TOKEN and PI_API_KEY of a shell that has sourced the environment file."""
    file = folder / "env.sh"
    file.write_bytes(render("environment.sh.j2", hf_token=token, api_key=key).encode())
    done = subprocess.run(
        [shell, "-c", '. ./env.sh; printf "%s\\0" "$HF_TOKEN" "$PI_API_KEY"'],
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}, cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_login_shell_gets_every_value_exactly(shell: str, tmp_path: Path) -> None:
    for value in filter(None, WORDS):
        assert sourced(shell, tmp_path, value, f"{value}sk") == [value, f"{value}sk"]
    assert not list(tmp_path.rglob(CANARY))


@settings(max_examples=40, deadline=None)
@given(token=FOR_A_SHELL.filter(lambda text: text not in ("", "none")), key=FOR_A_SHELL)
def test_a_login_shell_gets_any_text_exactly(token: str, key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert sourced("bash", tmp_path_factory.mktemp("home"), token, key) == [token, key]


# --- variables of models.toml


PLAN = LaunchPlan(ModelId("a/b"), "q", served_names=("q",), port=8001, gpus=(), args=Arguments(), env={})


@pytest.mark.parametrize(
    "name",
    ["X;touch pwned", "X=1", "", "1X", "X Y", "X\nY", "$(id)", "\u00dc", "VLLM_API_KEY", "PATH", "LD_PRELOAD", "PYTHONPATH",
     "PI_INSTANCE", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "BASH_ENV", "HF_TOKEN", "VLLM_PLUGINS"],
)  # fmt: skip
def test_models_toml_may_not_set_dangerous_variables(name: str) -> None:
    plan = replace(PLAN, env={name: "x"})
    with pytest.raises(InputError, match="may not set the variable"):
        serve.environment(plan)


def test_models_toml_may_set_any_valid_value() -> None:
    for value in VALUES:
        plan = replace(PLAN, env={"V": value})
        try:
            assert serve.environment(plan)["V"] == value
        except InputError as refusal:
            clean_refusal(refusal, value)
            assert raw_arguments.unusable(value)


# --- values from pods


def test_the_name_of_any_gpu_is_printable_and_short() -> None:
    for value in VALUES:
        found, skipped = gpus.parse(
            f"{ONE}\n1, {value}, 81559, 4, GPU-x, 9.0, 580\n{value}\n{value}, {value}, {value}\n"
        )
        assert found[0].name == "H100 80GB HBM3"
        assert all(gpu.name.isprintable() and len(gpu.name) <= 100 and is_clean(gpu.name) for gpu in found)
        assert all(is_clean(line) and "\n" not in line and len(line) <= 200 for line in skipped)


@given(st.lists(TEXTS | st.just(ONE), max_size=5))
def test_any_lines_of_nvidia_smi_parse(lines: list[str]) -> None:
    found, skipped = gpus.parse("\n".join(lines))
    assert len({gpu.id for gpu in found}) == len(found) and len(skipped) <= gpus.MAX_SKIPPED + 1
    for gpu in found:
        assert 0 <= gpu.id <= 999 and gpu.name.isprintable() and 0 < gpu.memory_mib < 10**9 and gpu.used_mib >= 0
        assert re.fullmatch("(GPU-[0-9a-f-]{8,40})?", gpu.uuid) and re.fullmatch("[0-9.]{0,20}", gpu.driver)
    assert all(is_clean(line) and "\n" not in line for line in skipped)


PASTED = re.compile(
    r"https?://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):[0-9]+/v1|https://[A-Za-z0-9]+-8001\.proxy\.runpod\.net/v1"
)


def test_an_address_from_a_pod_is_safe_in_a_shell() -> None:
    for value in VALUES:
        for public in (
            {"VAST_TCP_PORT_8001": "40123", "PUBLIC_IPADDR": value},
            {"VAST_TCP_PORT_8001": value, "PUBLIC_IPADDR": "192.0.2.7"},
            {"RUNPOD_TCP_PORT_8001": "40123", "RUNPOD_PUBLIC_IP": value},
            {"RUNPOD_POD_ID": value},
        ):
            assert PASTED.fullmatch(addresses.url("192.0.2.1", 8001, public)), value


def test_a_table_keeps_its_rows_with_hostile_cells(capsys: pytest.CaptureFixture[str]) -> None:
    for value in VALUES:
        screen.columns([("a", "b"), (value, value)])
        screen.table([(value, value)], ("A", "B"))
        printed = capsys.readouterr().out
        assert is_clean(printed) and printed.count("\n") <= 4, value


def test_text_functions_make_any_value_safe() -> None:
    for value in VALUES:
        assert is_clean(text.safe(value)), value
        line = text.one_line(value)
        assert is_clean(line) and "\n" not in line and len(line) <= 200
        coloured = re.sub(r"\x1b\[[0-9;:]{0,32}m", "", text.safe(value, colour=True))
        assert is_clean(coloured)


def test_a_log_of_hostile_values_is_safe_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    log = "\n".join(VALUES[:-1])
    for size in (1, 7, 4096):
        output = screen.Output()
        for start in range(0, len(log), size):
            output.write(log[start : start + size])
        assert is_clean(capsys.readouterr().out)


# --- values in pods.json


def document(**changes: Any) -> dict[str, Any]:
    deployment = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 99}
    pod = {"ssh": "ssh h", "gpus": [{"id": 0, "name": "H100", "memory": "80GB"}], "models": {"q": deployment}}
    where, value = changes.popitem()
    if where == "pod_name":
        return {"pods": {value: pod}}
    if where == "model_name":
        pod["models"] = {value: deployment}
    elif where == "gpu_name":
        pod["gpus"] = [{"id": 0, "name": value, "memory": "80GB"}]
    elif where in ("version", "active"):
        return {"pods": {"box": pod}, where: value}
    elif where in ("ssh", "modelsPath", "vllmVersion", "gpus", "models"):
        pod[where] = value
    else:
        deployment[where] = value
    return {"pods": {"box": pod}}


FIELDS = [
    *("pod_name", "model_name", "gpu_name", "version", "active", "ssh", "modelsPath", "vllmVersion", "gpus", "models"),
    *("model", "port", "gpu", "pid", "status", "pid_start", "boot_id", "instance", "memory_share"),
]
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**70,
    1.5,
    float("inf"),
    float("nan"),
    [],
    {},
    [[]],
    {"a": {}},
    [None],
    [{}],
    ["0", "1"],
]


@pytest.mark.parametrize("field", FIELDS)
def test_a_hostile_field_is_usable_or_the_file_is_rejected(
    field: str, laptop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = laptop / "c" / "pods.json"
    for value in [*VALUES, *([] if field.endswith("_name") else ODD)]:
        file.write_text(json.dumps(document(**{field: value})))
        before = file.read_bytes()
        try:
            known = state.load()
        except InputError as refusal:
            clean_refusal(refusal, str(value))
            assert str(file) in refusal.message
            assert file.read_bytes() == before
            continue
        file_format.written(known)
        assert run("pods") == 0
        printed = capsys.readouterr().out
        assert is_clean(printed) and printed.count("\n") == 2, value
