"""Complete words in bash, zsh and fish, and install that."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from pathlib import Path

from invoke import Exit

from pi import config
from pi.cli.verbs import named_verb
from pi.errors import InputError, PiError
from pi.fabric_tasks import VERBS, task_named
from pi.fabric_tasks.candidates import KINDS, Typed
from pi.fabric_tasks.flags import Flag, Options, flags_of, operands_of

BASH = """\
_pi() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        [ -n "$word" ] && COMPREPLY+=("$word")
    done < <("$1" --complete bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _pi pi pi-pods
"""

ZSH = """\
#compdef pi pi-pods
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i; }
_pi() {
    local -a found
    found=("${(@f)$("${(Q)words[1]}" --complete zsh -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    found=(${found:#})
    if (( $#found )); then compadd -a found; else _files; fi
}
compdef _pi pi pi-pods
"""

FISH = """\
function __pi_complete
    set -l found (command $argv[1] --complete fish -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
    if string length -q -- $found
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
for name in pi pi-pods
    complete -c $name -f -a "(__pi_complete $name)"
end
"""

SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

LIST = "[,"
"""Part of the value of a flag that takes several words with commas, such as "P[,P]"."""

SAFE = re.compile(r"[\w./:@%+=,-]+", re.ASCII)
"""Words that a shell takes as they are."""


def script(shell: str) -> str:
    return SHELLS[shell]


def install(shell: str) -> str:
    """Write the script to a file that the shell reads at its start. Returns what to tell the user.

    Raises InputError if a file cannot be written.
    """
    home = Path(os.environ.get("HOME") or "~").expanduser()
    try:
        if shell == "fish":
            folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "conf.d"
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / "pi-completion.fish"
            file.write_text(FISH, encoding="utf-8")
            return f"wrote {file}; a new fish completes pi"
        file = config.config_dir() / f"completion.{shell}"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(SHELLS[shell], encoding="utf-8")
        start = (Path(os.environ.get("ZDOTDIR") or home) / ".zshrc") if shell == "zsh" else home / ".bashrc"
        line = f"[ -r {shlex.quote(str(file))} ] && . {shlex.quote(str(file))}"
        before = start.read_text(encoding="utf-8", errors="replace") if start.exists() else ""
        if line in before.splitlines():
            return f"renewed {file}, which {start} already reads; a new {shell} completes pi"
        with start.open("a", encoding="utf-8") as opened:
            opened.write(f"{'' if before.endswith(chr(10)) or not before else chr(10)}{line}\n")
    except OSError as error:
        raise InputError(
            "completion-unwritable",
            f"cannot write {error.filename or shell}: {error.strerror}",
            f'or put this into the start-up file: eval "$(pi --print-completion-script {shell})"',
        ) from None
    return f"wrote {file}, and a line that reads it to {start}; a new {shell} completes pi"


def candidates(words: list[str]) -> list[str]:
    """Return the completions of the last word after `SHELL --`, or after `--`.

    bash splits words at "=" and ":" and replaces only the part behind them.
    """
    shell, words = ("", words[1:]) if words[:1] == ["--"] else ("".join(words[:1]), words[2:])
    *before, current = (_joined(words) if shell == "bash" else words) or [""]
    found = {word for word in _possible(before, current) if word.startswith(current) and SAFE.fullmatch(word)}
    kept = max(current.rfind("="), current.rfind(":")) + 1 if shell == "bash" else 0
    return sorted(word[kept:] for word in found)


def _joined(words: list[str]) -> list[str]:
    """Return words as they were typed: `--name`, `=`, `q` is `--name=q`."""
    joined: list[str] = []
    is_open = False
    for word in words:
        is_break = word in ("=", ":", "::")
        if joined and (is_break or is_open):
            joined[-1] += word
        else:
            joined.append(word)
        is_open = is_break
    return joined


def _possible(before: list[str], current: str) -> list[str]:
    names = [name.split(".") for name in VERBS]
    if not before:
        return [*(name[0] for name in names), "help", "version"]
    if before[0] == "help":
        return _possible(before[1:], current)
    if before[0] in ("--install-completion", "--print-completion-script"):
        return list(SHELLS)
    subverbs = [name[1] for name in names if len(name) == 2 and [name[0]] == before]
    with suppress(Exit, PiError):
        name, rest = named_verb(before)
        return subverbs + _of_verb(task_named(name).options, rest, current)
    return subverbs


def _of_verb(options: type[Options], before: list[str], current: str) -> list[str]:
    """Return what may follow: the values of the last flag, or names for an operand, and the flags."""
    flags = {name: flag for flag in flags_of(options) for name in flag.names}
    values, operands, awaited = _read(flags, before)
    if awaited is None and current.startswith("--") and "=" in current:
        awaited = flags.get(current.partition("=")[0])
        name, _, begun = current.partition("=")
        return [f"{name}={word}" for word in _values(awaited, values, operands, begun)]
    if awaited:
        return _values(awaited, values, operands, current)
    if current.startswith("-"):
        return [flag.name for flag in flags_of(options) if flag.name not in values or flag.repeats] + ["--help"]
    declared = operands_of(options)
    place = min(len(operands), len(declared) - 1)
    if place < 0 or (place < len(operands) and not declared[place].takes_rest):
        return []
    return _offered(declared[place].completes, values, operands)


def _read(flags: dict[str, Flag], before: list[str]) -> tuple[dict[str, str], list[str], Flag | None]:
    """Return the flags' values, the operands, and the flag whose value comes next."""
    values: dict[str, str] = {}
    operands: list[str] = []
    awaited: Flag | None = None
    for word in before:
        name, has_value, value = word.partition("=")
        if awaited:
            values[awaited.name] = word
            awaited = awaited if awaited.takes_rest else None
        elif flag := flags.get(name):
            values[flag.name] = value
            awaited = None if has_value or flag.kind is bool else flag
        elif not word.startswith("-"):
            operands.append(word)
    return values, operands, awaited


def _values(flag: Flag | None, values: dict[str, str], operands: list[str], begun: str) -> list[str]:
    """Return the values of a flag; in a list such as "a,b", those that are not in it yet."""
    if flag is None or flag.takes_rest:
        return []
    offered = list(flag.choices) or _offered(flag.completes, values, operands)
    before, comma, _ = begun.rpartition(",") if LIST in flag.value else ("", "", "")
    return [f"{before}{comma}{word}" for word in offered if word not in before.split(",")]


def _offered(kind: str, values: dict[str, str], operands: list[str]) -> list[str]:
    return KINDS[kind](Typed(values.get("--pod"), tuple(operands))) if kind else []
