"""The rg allowlist, and real ripgrep behind it: nothing outside the root, no programs, no escapes."""

from __future__ import annotations

import shlex
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pi.prompt import child, files, ripgrep
from pi.prompt.history import Call
from pi.prompt.limits import Deadline, ToolError
from pi.prompt.paths import PathPolicy
from pi.prompt.tools import Toolbox

FENCE = [*ripgrep.ALWAYS, "--iglob=!.ssh"]


@pytest.fixture
def policy(tmp_path: Path) -> PathPolicy:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("TODO one\nother\n")
    return PathPolicy(root)


def run(policy: PathPolicy, args: str, seconds: float = 10) -> str:
    return files.rg(policy, Deadline(threading.Event(), seconds), args)


@pytest.mark.parametrize(
    ("args", "before", "paths"),
    [
        pytest.param("TODO", ["-e", "TODO"], ["./"], id="a pattern alone searches the root"),
        pytest.param("TODO src", ["-e", "TODO"], ["./src"], id="a path is written from the root"),
        pytest.param("'two words'", ["-e", "two words"], ["./"], id="quotes are read as a shell reads them"),
        pytest.param("-i TODO", ["--ignore-case", "-e", "TODO"], ["./"], id="a short flag gets its long name"),
        pytest.param("TODO -i", ["--ignore-case", "-e", "TODO"], ["./"], id="flags may come last"),
        pytest.param("-in TODO", ["--ignore-case", "--line-number", "-e", "TODO"], ["./"], id="bundled flags"),
        pytest.param("-C3 TODO", ["--context=3", "-e", "TODO"], ["./"], id="an attached value"),
        pytest.param("-C=3 TODO", ["--context=3", "-e", "TODO"], ["./"], id="an attached value after ="),
        pytest.param("-C 3 TODO", ["--context=3", "-e", "TODO"], ["./"], id="a value of its own"),
        pytest.param("-inC3 TODO", ["--ignore-case", "--line-number", "--context=3", "-e", "TODO"], ["./"], id="both"),
        pytest.param("--context=3 TODO", ["--context=3", "-e", "TODO"], ["./"], id="a long flag with ="),
        pytest.param("--context 3 TODO", ["--context=3", "-e", "TODO"], ["./"], id="a long flag with a space"),
        pytest.param("-tpy TODO", ["--type=py", "-e", "TODO"], ["./"], id="a type"),
        pytest.param("-g '*.py' TODO", ["--glob=*.py", "-e", "TODO"], ["./"], id="a glob"),
        pytest.param("-e a -e b src", ["-e", "a", "-e", "b"], ["./src"], id="with -e, the rest are paths"),
        pytest.param("-e --pre", ["-e", "--pre"], ["./"], id="a flag as the pattern of -e is a pattern"),
        pytest.param("-- --pre src", ["-e", "--pre"], ["./src"], id="after -- there are no flags"),
        pytest.param("--files", ["--files"], ["./"], id="--files needs no pattern"),
        pytest.param("--files src", ["--files"], ["./src"], id="--files takes paths"),
        pytest.param("--type-list", ["--type-list"], ["./"], id="--type-list needs no pattern"),
        pytest.param("-uu TODO", ["--unrestricted", "--unrestricted", "-e", "TODO"], ["./"], id="a repeated flag"),
    ],
)
def test_allowed_arguments_are_rewritten(policy: PathPolicy, args: str, before: list[str], paths: list[str]) -> None:
    assert ripgrep.command(args, policy) == [*before, *FENCE, "--", *paths]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        *(
            (f"{flag} x", flag.split("=")[0].split()[0])
            for flag in [
                *("--pre=./evil", "--pre ./evil", "--pre-glob=*", "--hostname-bin=./evil", "--hostname-bin ./evil"),
                *("--search-zip", "-z", "-f secret", "--file=secret", "--file secret", "--ignore-file=x", "-L"),
                *("--follow", "-r x", "--replace=x", "--color=always", "--colors=match:fg:red", "-p", "--pretty"),
                *("--context-separator=x", "--field-match-separator=x", "--hyperlink-format=x", "--path-separator=x"),
                *("-j 9", "--threads=9", "--dfa-size-limit=100G", "--regex-size-limit=100G", "--mmap", "--debug"),
                *("--trace", "--generate=man", "--pcre2-version", "--no-config", "--config=x", "-X", "--index"),
                *("--x-crud", "--x-path=/tmp/x", "--null-data", "-0", "--engine=pcre2", "--passthru", "--help", "-V"),
                *("--ignore-parent", "--require-git", "--search-zip=1", "--no-messages=1", "--ignore-case=yes"),
            ]
        ),
        ("-iz x", "-z (in -iz)"),
        ("-nLi x", "-L (in -nLi)"),
        ("--pr x", "--pr"),
        ("--PRE=x x", "--PRE"),
    ],
)
def test_any_other_flag_is_rejected_by_name(policy: PathPolicy, args: str, named: str) -> None:
    with pytest.raises(ToolError, match="not allowed") as refused:
        ripgrep.command(args, policy)
    assert f"the flag {named} is not" in str(refused.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("", "needs a pattern"),
        ("-i", "needs a pattern"),
        ("'open", "cannot be split"),
        ("x\0y", "NUL"),
        ("-A", "-A needs a value"),
        ("x --glob", "--glob needs a value"),
        ("-A many x", "invalid value 'many' of -A"),
        ("-A -5 x", "invalid value '-5' of -A"),
        ("--sort=evil x", "invalid value 'evil' of --sort"),
        ("--encoding=;rm x", "invalid value ';rm' of --encoding"),
        ("--max-filesize=1T x", "invalid value '1T' of --max-filesize"),
        ("x nowhere", "no such file or directory: nowhere"),
        ("x - ", "no such file or directory: -"),
        ("x | head", "no such file or directory: |"),
        ("x ../other", "outside the working directory"),
        ("x /etc/passwd", "outside the working directory"),
        ("x /proc/self/environ", "is private"),
        ("x ~/.ssh", "is private"),
    ],
)
def test_bad_arguments_are_explained(policy: PathPolicy, args: str, says: str) -> None:
    with pytest.raises(ToolError) as refused:
        ripgrep.command(args, policy)
    assert says in str(refused.value)


def test_real_ripgrep_finds_matches(policy: PathPolicy) -> None:
    assert run(policy, "-n TODO") == "./src/a.py:1:TODO one\n"
    assert run(policy, "absent") == "[no matches]"
    assert run(policy, "-q TODO") == "[matches found]"
    assert run(policy, f"-c TODO {policy.root}/src") == "./src/a.py:1\n"
    with pytest.raises(ToolError, match="regex parse error"):
        run(policy, "'('")
    with pytest.raises(ToolError, match="unrecognized file type"):
        run(policy, "-t nosuch x")


def test_a_file_with_the_name_of_a_flag_is_searched(policy: PathPolicy) -> None:
    (policy.root / "--pre=evil").write_text("TODO in a flag\n")
    assert run(policy, "-N TODO -- '--pre=evil'") == "TODO in a flag\n"


def test_long_output_is_cut_with_a_note(policy: PathPolicy) -> None:
    (policy.root / "big.txt").write_text("TODO and more of it\n" * 20_000)
    result = run(policy, "TODO big.txt")
    assert len(result) < 66_000
    assert result.endswith("[cut: too much output; use a narrower pattern, path or --max-count]")


def test_a_search_that_takes_too_long_is_killed(policy: PathPolicy) -> None:
    (policy.root / "big.txt").write_text("a" * 3_000_000)
    with pytest.raises(ToolError, match=r"longer than 0\.3 seconds"):
        run(policy, "'(?:a{1,400}[ac]){2,300}[0-9]'", seconds=0.3)


def test_a_child_that_hangs_is_killed_with_its_children(policy: PathPolicy) -> None:
    began = time.monotonic()
    with pytest.raises(ToolError, match="was stopped"):
        child.run(
            ["/bin/sh", "-c", "sleep 30 & echo $! > pid; wait"], policy.root, Deadline(threading.Event(), 0.5), 99
        )
    assert time.monotonic() - began < 10
    grandchild = int((policy.root / "pid").read_text())
    end = time.monotonic() + 5
    while is_running(grandchild):
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_child_does_not_get_pis_environment(policy: PathPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_API_KEY", "canary")
    shown = child.run(["/usr/bin/env"], policy.root, Deadline(threading.Event()), 4096)
    assert sorted(shown.output.decode().split()) == ["LANG=C.UTF-8", "PATH=/usr/bin:/bin"]


def test_a_configuration_file_of_ripgrep_is_ignored(policy: PathPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    config = policy.root / "rgrc"
    config.write_text("--count\n")
    monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(config))
    assert run(policy, "-N TODO src") == "./src/a.py:TODO one\n"


def test_without_ripgrep_the_error_names_other_tools(policy: PathPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ripgrep, "find", lambda: None)
    with pytest.raises(ToolError, match="use glob and read"):
        run(policy, "x")


SECRET = "canary-8f2b"


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> PathPolicy:
    """A root with ways out, private directories, and programs that a forbidden flag would run."""
    top = tmp_path_factory.mktemp("trap")
    root, outside = top / "root", top / "root-evil"
    for directory in (root / "src", root / "config", root / ".ssh", root / "a" / ".SSH", outside):
        directory.mkdir(parents=True)
    for place in (root / "config", root / ".ssh", root / "a" / ".SSH", outside):
        (place / "secret.txt").write_text(f"{SECRET} x\n[{SECRET}\n")
    (root / "src" / "a.py").write_text("x = 1\n")
    (root / "src" / "x.gz").write_bytes(b"\x1f\x8bnot really")
    (root / "link").symlink_to(outside)
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / ".ignore").symlink_to(outside / "secret.txt")
    evil = root / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {top}/ran\n")
    evil.chmod(0o755)
    (root / "gzip").symlink_to(evil)
    return PathPolicy(root, (*PathPolicy(root).private, root / "config"))


words = st.sampled_from(
    [
        *("x", ".", "./", "..", "../root-evil", "link", "link/", "link/secret.txt", "link.txt", "src", "src/../.."),
        *(".ssh", "a/.SSH", "config", "config/secret.txt", "/", "/proc/self/environ", "~", "-", "--", "evil"),
        *("--pre", "--pre=./evil", "--pre-glob=*", "--hostname-bin=./evil", "--hostname-bin", "./evil", "-z", "-iz"),
        *("--search-zip", "-L", "--follow", "-f", "--file=link.txt", "--ignore-file=link.txt", "-e", "-eL", "-g"),
        *("*", "**", "!src", "--glob=**", "--iglob", "--iglob=**", "--iglob=.ssh/**", "--iglob=!x", "--iglob=config"),
        *("--glob=!/config", "--glob=config/**", "-u", "-uu", "-uuu", "-.", "--hidden", "--no-ignore", "-n", "-i"),
        *("-v", "-c", "-l", "--files", "--type-list", "--json", "--stats", "-tpy", "--type-add=t:*", "-tt", "-A"),
        *("3", "-A3", "-m=1", "-U", "-P", "--sort=path", "--heading", "-d", "99", "-E", "none", "--one-file-system"),
        *(
            "--no-ignore-parent",
            "--debug",
            "-X",
            "--x-crud",
            "secret",
            "can",
            "$(touch ran)",
            ";",
            "\x1b[2J",
        ),
    ]
)
arguments = (
    st.lists(words, max_size=7).map(shlex.join) | st.lists(words, max_size=7).map(" ".join) | st.text(max_size=30)
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments)
@example("-uuu . --iglob=**")
@example("-uu --iglob '*' --glob '**' -e x")
@example("--hidden --iglob .ssh/** x")
@example("-uu --iglob=!x --iglob=config x")
@example("--files -uu")
@example("x src")
@example("x .")
@example("-v zzz -uu")
def test_hostile_arguments_read_nothing_outside_and_run_nothing(trap: PathPolicy, args: str) -> None:
    try:
        shown = run(trap, args)
    except ToolError as error:
        shown = str(error)
    assert SECRET not in shown
    assert "secret.txt" not in shown or "secret.txt" in args
    assert not (trap.root.parent / "ran").exists()
    assert not (trap.root / "ran").exists()


@pytest.mark.parametrize("args", ["x", "-uu x", "-uuu x", "-uu --iglob '**' x", "-uu --glob '**' x", "--files -uu"])
def test_allow_outside_does_not_search_private_paths(trap: PathPolicy, args: str) -> None:
    top = trap.root.parent
    inner = PathPolicy(trap.root / "src", trap.private, allow_outside=True)
    shown = run(inner, f"{args} {shlex.quote(str(top))}")
    assert f"{top}/root-evil/secret.txt" in shown
    assert "/config/secret.txt" not in shown
    assert ".ssh/" not in shown.lower()


@pytest.mark.parametrize(
    ("script", "is_error", "says"),
    [
        pytest.param("kill -9 $$", True, "signal 9 killed ripgrep; use a narrower search", id="killed"),
        pytest.param("exit 1", False, "[no matches]", id="nothing"),
        pytest.param("exit 2", False, "[no matches][some files could not be read]", id="nothing in what was read"),
        pytest.param("echo a:1; exit 2", False, "a:1\n[some files could not be read]", id="something in what was read"),
    ],
)
def test_failures_of_ripgrep_do_not_look_like_no_matches(
    policy: PathPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, is_error: bool, says: str
) -> None:
    binary = tmp_path / "rg"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    monkeypatch.setattr(ripgrep, "find", lambda: binary)
    message = Toolbox(policy).call(Call("1", "rg", '{"args": "x"}'), threading.Event())
    assert (message.text, message.is_error) == (says, is_error)


@pytest.fixture
def two_files(policy: PathPolicy) -> PathPolicy:
    (policy.root / "b c.txt").write_text("TODO two\n")
    return policy


NAMED = {
    "TODO src/a.py": ["TODO one"],
    "-n TODO src/a.py 'b c.txt'": ["./b c.txt:1:TODO two", "./src/a.py:1:TODO one"],
    "-H -A1 TODO src/a.py": ["./src/a.py-other", "./src/a.py:TODO one"],
    "-c TODO src/a.py 'b c.txt'": ["./b c.txt:1", "./src/a.py:1"],
    "-l TODO src/a.py": ["./src/a.py"],
    "--files src/a.py": ["./src/a.py"],
    "-H --heading -n TODO src/a.py": ["./src/a.py", "1:TODO one"],
    "-n TODO src 'b c.txt'": ["./b c.txt:1:TODO two", "./src/a.py:1:TODO one"],
}


@pytest.mark.parametrize(("args", "lines"), NAMED.items(), ids=NAMED)
def test_open_files_appear_under_their_names(two_files: PathPolicy, args: str, lines: list[str]) -> None:
    assert sorted(run(two_files, args).splitlines()) == lines


def test_open_files_appear_under_their_names_in_json(two_files: PathPolicy) -> None:
    shown = run(two_files, "--json TODO 'b c.txt'")
    assert '"path":{"text":"./b c.txt"}' in shown and "/fd/" not in shown


def swapping(tmp_path: Path, script: str) -> Path:
    """Return a program that runs a script, as another process may at that moment, and then ripgrep."""
    real, binary = ripgrep.find(), tmp_path / "swapping-rg"
    binary.write_text(f'#!/bin/sh\ncd {shlex.quote(str(tmp_path))}\n{script}\ncd root\nexec {real} "$@"\n')
    binary.chmod(0o755)
    return binary


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "a.py").write_text(f"TODO {SECRET}\n")
    return folder


@pytest.mark.parametrize(
    "script", ["ln -sfn ../../outside/a.py root/src/a.py", "mv root/src root/x; ln -s ../outside root/src"]
)
def test_a_file_that_is_swapped_after_the_check_is_not_the_one_that_rg_reads(
    policy: PathPolicy, outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    binary = swapping(tmp_path, script)
    monkeypatch.setattr(ripgrep, "find", lambda: binary)
    assert run(policy, "TODO src/a.py") == "TODO one\n"


def test_a_directory_that_is_swapped_after_the_check_gives_no_result(
    policy: PathPolicy, outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = swapping(tmp_path, "mv root/src root/x; ln -s ../outside root/src")
    monkeypatch.setattr(ripgrep, "find", lambda: binary)
    with pytest.raises(ToolError, match=r"\./src was replaced while rg ran"):
        run(policy, "TODO src")


def test_a_file_that_is_swapped_before_rg_starts_is_not_opened(
    policy: PathPolicy, outside: Path, tmp_path: Path
) -> None:
    words = ripgrep.command("TODO src/a.py", policy)
    (policy.root / "src" / "a.py").unlink()
    (policy.root / "src" / "a.py").symlink_to(outside / "a.py")
    with pytest.raises(ToolError, match="cannot open"), ripgrep.opened(words, policy):
        pass
