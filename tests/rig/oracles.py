"""Properties of the parsers of untrusted text. `inv fuzz` searches for inputs that violate them.

Each oracle passes bytes to a parser and raises AssertionError if the result violates a property.
Any other exception is also a finding.
"""

from __future__ import annotations

import atexit
import json
import re
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pi.errors import InputError
from pi.pods import file_format, gpus
from pi.pods.types import Pod, State
from pi.prompt import ripgrep
from pi.prompt.limits import ToolError
from pi.prompt.paths import PathPolicy
from pi.ssh import target

Oracle = Callable[[bytes], None]


def as_argument(data: bytes) -> str:
    """Decode bytes as Python decodes command-line arguments."""
    return data.decode("utf-8", "surrogateescape")


# --- the ssh string

OPENSSH_REFUSES = re.compile(r"""^-|['`"$\\;&<>|(){}\s\x00-\x1f\x7f]""")
"""Characters that OpenSSH rejects in hosts and users (valid_hostname and valid_ruser of ssh.c)."""


RUNS_SOMETHING = {
    *("ProxyCommand", "LocalCommand", "PermitLocalCommand", "KnownHostsCommand", "Match", "Include", "RemoteCommand"),
    *("PKCS11Provider", "SecurityKeyProvider", "SmartcardDevice", "XAuthLocation", "ProxyUseFdpass"),
}
"""Options of ssh that run a program, load a library or read a configuration."""


def ssh_string(data: bytes) -> None:
    text = as_argument(data)
    try:
        found = target.parse(text)
    except InputError as error:
        assert is_one_clean_line(error.render())
        return
    if isinstance(found, target.LocalTarget):
        assert text.strip() == "local"
        return
    assert found.port is None or 1 <= found.port <= 65535
    for name in (found.host, *([found.user] if found.user is not None else [])):
        assert 0 < len(name) <= 255 and not OPENSSH_REFUSES.search(name), name
    programs = {name: value for name, value in found.options if name in RUNS_SOMETHING}
    assert programs in ({}, {"ProxyCommand": "none"}), programs
    for word in (*found.identity_files, *found.jumps, *(value for _, value in found.options)):
        assert word and word.isprintable(), word
    for jump in found.jumps:
        assert not jump.startswith("-") and not jump.rpartition("@")[2].startswith("-"), jump
    assert all(map(is_one_clean_line, found.notices))
    again = target.parse(shlex.join(["ssh", *found.ssh_words()]))
    assert isinstance(again, target.SshTarget)
    assert replace(again, notices=()) == replace(found, notices=()), (again, found)


UNCLEAN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that no terminal may receive: controls, bidirectional overrides, lone surrogates."""


def is_one_clean_line(text: str) -> bool:
    return not UNCLEAN.search(text)


# --- pods.json

KNOWN = {
    "top": {"version", "pods", "active"},
    "pod": {"ssh", "gpus", "models", "modelsPath", "vllmVersion", "vllmBeside", "host_key", "boot", "machine"}
    | {"price", "set_up_at", "on_idle"},
    "gpu": {"id", "name", "memory", "memory_mib", "compute_capability"},
    "model": {
        *("model", "port", "gpu", "pid", "status", "pid_start", "boot_id", "instance", "memory_share", "owner"),
        *("api", "private", "venv", "adapters", "replica_of", "options", "move"),
    },
    "owner": {"pid", "host", "since"},
}


def pods_file(data: bytes) -> None:
    try:
        state = file_format.read(data)
    except ValueError as error:
        assert is_one_clean_line(InputError("x", str(error)).render())
        return
    check_state(state)
    text = file_format.written(state)
    assert file_format.read(text.encode()) == state
    assert unknown_keys(json.loads(text)) == unknown_keys(json.loads(data.decode()))


def check_state(state: State) -> None:
    assert state.active is None or state.active in state.pods
    for pod_name, pod in state.pods.items():
        assert is_a_name(pod_name) and pod.name == pod_name and pod.ssh.isprintable()
        for gpu in pod.gpus:
            assert 0 <= gpu.id <= 999 and 0 <= gpu.memory_mib <= 2**31 and gpu.name.isprintable()
        for name, model in pod.models.items():
            assert is_a_name(name) and model.name == name and 1 <= model.port <= 65535
            assert model.pid >= 2 or (model.status == "starting" and model.pid >= 0)
            assert all(0 <= gpu <= 999 for gpu in model.gpus)


def is_a_name(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)) and len(text) <= 63


def unknown_keys(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the unknown keys of every object whose unknown keys pi must keep."""
    found = [unknown(document, "top")]
    for pod in document.get("pods", {}).values():
        found += [unknown(pod, "pod"), *(unknown(gpu, "gpu") for gpu in pod.get("gpus", []))]
        for model in pod.get("models", {}).values():
            found += [unknown(model, "model"), unknown(model.get("owner") or {}, "owner")]
    return found


def unknown(part: dict[str, Any], kind: str) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in KNOWN[kind]}


# --- nvidia-smi


def nvidia_smi(data: bytes) -> None:
    cards, skipped = gpus.parse(data.decode("utf-8", "replace"))
    ids = [card.id for card in cards]
    assert ids == sorted(set(ids)) and all(0 <= number <= 999 for number in ids)
    for card in cards:
        assert 0 < len(card.name) <= 100 and card.name.isprintable(), card
        assert 0 < card.memory_mib < 10**9 and 0 <= card.used_mib < 10**9 and card.free_mib <= card.memory_mib, card
        assert re.fullmatch(r"(GPU-[0-9a-f-]{8,40})?", card.uuid) and re.fullmatch(r"[0-9.]{0,20}", card.driver), card
        assert card.compute_capability is None or all(0 <= part <= 99 for part in card.compute_capability), card
    assert len(skipped) <= 21 and all(is_one_clean_line(line) and len(line) <= 200 for line in skipped)
    written = file_format.written(State({"box": Pod("box", "ssh h", tuple(cards))}))
    stored = file_format.read(written.encode()).pods["box"].gpus
    assert [(card.id, card.name, card.memory_mib) for card in stored] == [
        (card.id, card.name, card.memory_mib) for card in cards
    ]


# --- rg's arguments

HARMLESS = {
    *("after-context", "before-context", "context", "count", "count-matches", "regexp", "encoding", "fixed-strings"),
    *("glob", "iglob", "ignore-case", "files-with-matches", "files-without-match", "files", "max-count"),
    *("max-columns", "line-number", "no-line-number", "only-matching", "quiet", "case-sensitive", "smart-case"),
    *("type", "type-not", "invert-match", "word-regexp", "line-regexp", "with-filename", "no-filename", "hidden"),
    *("unrestricted", "max-depth", "max-filesize", "no-ignore", "no-ignore-dot", "no-ignore-exclude", "sort"),
    *("no-ignore-files", "no-ignore-global", "no-ignore-parent", "no-ignore-vcs", "sortr", "stats", "trim", "json"),
    *("heading", "no-heading", "column", "byte-offset", "crlf", "type-list", "type-add", "pcre2", "multiline"),
    *("multiline-dotall", "one-file-system"),
}
"""Flags of ripgrep (see its man page) that run no program, use no other files and print no escape sequences."""


def rg_arguments(data: bytes) -> None:
    policy = tree()
    try:
        argv = ripgrep.command(as_argument(data), policy)
    except ToolError:
        return
    fence = argv.index(ripgrep.ALWAYS[0])
    assert tuple(argv[fence : fence + len(ripgrep.ALWAYS)]) == ripgrep.ALWAYS
    rest = argv[fence + len(ripgrep.ALWAYS) :]
    end = rest.index("--")
    assert rest[0] == "--iglob=!.ssh" and all(word.startswith("--iglob=!") for word in rest[:end])
    given, paths = argv[:fence], rest[end + 1 :]
    words = iter(given)
    for word in words:
        if word == "-e":
            next(words)
        else:
            name, equals, _ = word.removeprefix("--").partition("=")
            assert word.startswith("--") and name in HARMLESS and (bool(equals) == (name in ripgrep.VALUES)), word
    assert paths and not any("\0" in word for word in argv)
    for path in paths:
        real = (policy.root / path).resolve(strict=True)
        assert path.startswith("./") and real.is_relative_to(policy.root), path
        assert ".ssh" not in real.parts, path
    again = [*given, "--", *(path for path in paths if path != "./")]
    assert ripgrep.command(shlex.join(again), policy) == argv


@cache
def tree() -> PathPolicy:
    """Make a small directory with links out of it."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    top = Path(folder.name).resolve()
    root = top / "root"
    for path in (root / "src", root / ".ssh", top / "root-evil"):
        path.mkdir(parents=True)
        (path / "a.py").write_text("x = 1\n")
    (root / "out").symlink_to(top / "root-evil")
    (root / "in").symlink_to("src")
    (root / "--pre=x").touch()
    return PathPolicy(root)


ORACLES: dict[str, Oracle] = {
    "ssh_string": ssh_string,
    "pods_file": pods_file,
    "nvidia_smi": nvidia_smi,
    "rg_arguments": rg_arguments,
}
