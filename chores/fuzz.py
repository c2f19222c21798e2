"""Coverage-guided fuzzing (atheris, on LLVM's libFuzzer) of the parsers of untrusted text.

Each parser has an oracle (tests/rig/oracles.py) and begins with the inputs of earlier runs (tests/fixtures/fuzz).
Inputs that reach new code are added there. An input that breaks an oracle is left in .fuzz.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests" / "fixtures" / "fuzz"
WORK = ROOT / ".fuzz"
LONGEST = {"ssh_string": 200, "pods_file": 800, "nvidia_smi": 400, "rg_arguments": 200}
"""Bytes of an input, by parser."""


@dataclass(frozen=True)
class Run:
    """The result of fuzzing one parser. `finding` is a file with an input that breaks its oracle."""

    parser: str
    executions: int
    edges: int
    kept: int
    finding: Path | None
    output: str


def fuzz(seconds: int) -> list[Run]:
    """Fuzz every parser, `seconds` in all, and keep the inputs that reach new code."""
    return [_fuzz(parser, max(1, seconds // len(LONGEST))) for parser in LONGEST]


def _fuzz(parser: str, seconds: int) -> Run:
    fresh, kept = WORK / parser, CORPUS / parser
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    kept.mkdir(parents=True, exist_ok=True)
    words = WORK / f"{parser}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS[parser]))
    output = _libfuzzer(parser, f"-max_total_time={seconds}", f"-dict={words}", str(fresh), str(kept))
    finding = re.search(r"Test unit written to (\S+)", output)
    if not finding:
        _keep(kept, smallest(parser, {path.read_bytes() for path in (*kept.iterdir(), *fresh.iterdir())}))
    executions = re.findall(r"#(\d+)\s", output)
    edges = re.findall(r"\bcov: (\d+)", output)
    return Run(
        parser,
        int(executions[-1]) if executions else 0,
        int(edges[-1]) if edges else 0,
        len(list(kept.iterdir())),
        Path(finding[1]) if finding else None,
        output,
    )


def _keep(folder: Path, inputs: list[bytes]) -> None:
    """Make a folder contain exactly these inputs, each named by its SHA-1 as libFuzzer does."""
    shutil.rmtree(folder)
    folder.mkdir()
    for data in inputs:
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def smallest(parser: str, inputs: set[bytes]) -> list[bytes]:
    """Return inputs, shortest first, if each reaches steps of pi's code that earlier ones do not."""
    from tests.rig.oracles import ORACLES

    seen: set[tuple[str, int, int, int]] = set()
    kept = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        steps = _steps(ORACLES[parser], data)
        if steps - seen:
            seen |= steps
            kept.append(data)
    return kept


def _steps(oracle: Callable[[bytes], None], data: bytes) -> set[tuple[str, int, int, int]]:
    """Return an input's steps from line to line of pi's code, with their counts in powers of two."""
    found: Counter[tuple[str, int, int]] = Counter()

    def enter(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(str(ROOT / "pi")):
            return None
        at = 0

        def step(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            nonlocal at
            found[frame.f_code.co_filename, at, frame.f_lineno] += 1
            at = frame.f_lineno
            return step

        return step(frame, event, _)

    sys.settrace(enter)
    try:
        oracle(data)
    finally:
        sys.settrace(None)
    return {(*step, count.bit_length()) for step, count in found.items()}


def _libfuzzer(parser: str, *words: str) -> str:
    """Run libFuzzer on a parser in its own process, since it never returns; return its output."""
    options = (f"-max_len={LONGEST[parser]}", "-timeout=10", f"-artifact_prefix={WORK}/{parser}-")
    done = subprocess.run(
        [sys.executable, "-m", "chores.fuzz", parser, *options, *words], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def report(seconds: int) -> int:
    """Fuzz, and print a line for each parser; return 1 if an oracle broke, else 0."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed here: pip install atheris (Linux on x86-64, CPython 3.10 to 3.13)")
        return 1
    began, broken = time.monotonic(), 0
    for run in fuzz(seconds):
        print(f"{run.parser}: {run.executions} executions, {run.edges} edges, {run.kept} inputs kept", flush=True)
        if run.finding:
            broken = 1
            print("\n".join(run.output.splitlines()[-25:]))
            print(f"  this breaks its oracle: {run.finding}: {json.dumps(run.finding.read_bytes().decode('latin-1'))}")
    print(f"{time.monotonic() - began:.0f} s in all")
    return broken


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


WORDS: dict[str, list[str]] = {
    "ssh_string": [
        *("ssh ", "local", "ssh://", "root@", "1.2.3.4", "[::1]", " -p ", " -i ", " -l ", " -J ", " -A", " -4", " -L "),
        *(" -o ", "Port=", "User=", "IdentityFile=", "ProxyJump=", "ProxyCommand=", "ssh -W %h:%p ", "HostName="),
        *("StrictHostKeyChecking=", "no", "yes", "ForwardAgent=", "AddressFamily=", "ConnectTimeout=", "~/.ssh/id"),
        *("HostKeyAlias=", "Compression=", "none", "'", '"', "\\", "%", "$", ",", ":22", "@", " -- ", "-oX", "22"),
    ],
    "pods_file": [
        *('{"pods":', '{"a":', '"ssh":', '"x"', '"models":', '"gpus":', '[{"id":', '"name":', '"memory":', '"80GB"'),
        *('"memory_mib":', '"model":', '"port":', '"gpu":', '"0,1"', '"pid":', '"status":', '"starting"', '"running"'),
        *('"owner":', '"since":', '"host":', '"active":', '"version":', '"memory_share":', '"compute_capability":'),
        *('"9.0"', '"boot":', '"instance":', '"extra":', "1e400", "NaN", "null", "true", "\\ud800", "\\u0000", "0.5"),
        *("{}", "[]", "}", "]", ",", "1", "99999999999999999999", "-1", '"9999999G"', '"pid_start":', '"modelsPath":'),
    ],
    "nvidia_smi": [
        *("0, ", "1, ", "NVIDIA ", "H100", ", 81559", ", 81559 MiB", ", 0", "GPU-0a1b2c3d", ", 9.0", ", 550.54.15"),
        *("[N/A]", "[Not Supported]", "ERR!", "[GPU is lost]", "\\x0a", "\\x0d\\x0a", "\\x1b[2J", "MIG", "999", ", "),
    ],
    "rg_arguments": [
        *("x ", "-e ", "--regexp=", "-i", "-in", "-C3 ", "-tpy ", "-g ", "'*.py'", "--glob=", "--iglob=", "--files"),
        *(
            "--type-list",
            "--pre=",
            "--pre ",
            "--hostname-bin=",
            "-z",
            "--search-zip",
            "-f ",
            "--file=",
            "-L",
            "--follow",
        ),
        *(
            "--replace=",
            "--colors=",
            "--type-add=a:",
            "--sort=path",
            "--max-count=",
            "--json",
            "src",
            "./in",
            "out/a.py",
        ),
        *("../root-evil", ".ssh", "/etc/passwd", "--", "-", "'", '"', "\\", "--pre=x", "-A", "3", "--context=", "-U"),
    ],
}
"""Words of the parsers' languages, which a fuzzer finds slowly."""


def _target(parser: str, options: list[str]) -> None:
    import atheris

    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["pi"]):
        from tests.rig.oracles import ORACLES
    atheris.Setup([sys.argv[0], *options], ORACLES[parser])
    atheris.Fuzz()


if __name__ == "__main__":
    _target(sys.argv[1], sys.argv[2:])
