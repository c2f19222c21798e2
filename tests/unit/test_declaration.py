"""pi.toml: what pi reads, and what it says of mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli_w

from chores.docs import ROOT
from pi.errors import InputError
from pi.fabric_tasks import declaration
from pi.steps.declared import Declared

GOOD = """
[pods.dc1.models.qwen]
model = "Qwen/Qwen3-8B"
memory = "45%"
gpus = 2
set = ["max-num-seqs=64"]
private = true

[pods.lab.models.small]
model = "/models/small"
"""


def read(folder: Path, text: str) -> list[Declared]:
    file = folder / "pi.toml"
    file.write_text(text)
    return declaration.read(str(file), {"dc1": 1, "lab": 1})


def test_a_file_gives_the_models_in_its_order(tmp_path: Path) -> None:
    first, second = read(tmp_path, GOOD)
    assert (first.place, second.place) == ("dc1/qwen", "lab/small")
    assert (first.start.request.gpus, first.start.request.memory, first.start.private) == (2, 0.45, True)
    again = {"pods": {"dc1": {"models": {"qwen": first.start.options}}}}
    assert read(tmp_path, tomli_w.dumps(again)) == [first]


def test_the_example_of_the_page_is_valid(tmp_path: Path) -> None:
    [example] = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/declare.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [model.place for model in read(tmp_path, example)] == ["dc1/qwen", "dc1/embed", "lab/oss"]


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + GOOD) == read(tmp_path, GOOD)


MISTAKES = {
    "nothing": ("", ["pods: write a table"]),
    "another key": ("x = 1\n" + GOOD, ["x: unknown key"]),
    "a pod that pi does not know": ("[pods.dc9.models.q]\nmodel = 'a/b'", ["pods.dc9: unknown pod; you have dc1, lab"]),
    "a key of a pod": ("[pods.dc1]\nssh = 'x'", ["pods.dc1.ssh: unknown key"]),
    "a pod that is text": ("[pods]\ndc1 = 'x'", ["pods.dc1: write a table"]),
    "models that are a list": ("[pods.dc1]\nmodels = []", ["pods.dc1.models: write a table"]),
    "a name": ("[pods.dc1.models.'a b']\nmodel = 'a/b'", ["pods.dc1.models.a b: invalid name"]),
    "several": (
        "[pods.dc1.models.q]\nmodle = 'a/b'\ngpus = true\n[pods.lab.models]\nr = 1",
        [
            "pods.dc1.models.q: model is missing",
            "pods.dc1.models.q: unknown key modle; did you mean model?",
            "pods.dc1.models.q: gpus: write gpus = 2",
            "pods.lab.models.r: write a table",
        ],
    ),
    "a terminal's escapes": ('[pods.dc1.models."\\u001b[2J"]\nmodel = "a/b"', ["pods.dc1.models."]),
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_has_a_line(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, text)
    _, *lines = raised.value.render().splitlines()
    assert len(lines) == len(said) and "\x1b" not in raised.value.render()
    for line, expected in zip(lines, said, strict=True):
        assert line.startswith(f"  {expected}")


@pytest.mark.parametrize("raw", [b"\xff", b"[pods", b"x = 1\n" * 200_000, b"a = " + b"[" * 10_000])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "pi.toml").write_bytes(raw)
    with pytest.raises(InputError) as raised:
        declaration.read(str(tmp_path / "pi.toml"), {})
    assert raised.value.id == "declaration-invalid"


def test_a_missing_file_leads_to_export(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        declaration.read(str(tmp_path / "none.toml"), {})
    assert raised.value.hint and "pi export" in raised.value.hint
