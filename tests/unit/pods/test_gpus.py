"""The parser of `nvidia-smi`: recorded outputs (tests/cases/gpus) and hostile ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.pods import gpus
from pi.pods.gpus import Gpu, memory_label, memory_mib, parse
from tests.rig.cases import CASES, load, names

FOLDER = CASES / "gpus"


@dataclass(frozen=True)
class Case:
    """The keys of a case file (tests/cases/gpus/README.md)."""

    about: str
    source: str
    csv: str
    gpus: list[dict[str, Any]]
    skipped: list[str]


def read(name: str) -> Case:
    return load(Case, FOLDER / f"{name}.toml")


def gpu(compute_capability: list[int] | None = None, **values: Any) -> Gpu:
    """Make a GPU from an entry of a case."""
    if compute_capability is None:
        return Gpu(**values)
    major, minor = compute_capability
    return Gpu(compute_capability=(major, minor), **values)


@pytest.mark.parametrize("name", names(FOLDER))
def test_output_has_the_expected_gpus_and_skipped_lines(name: str) -> None:
    case = read(name)
    found, skipped = parse(case.csv)
    assert found == [gpu(**values) for values in case.gpus]
    assert skipped == case.skipped


@pytest.mark.parametrize("name", names(FOLDER))
def test_windows_line_ends_change_nothing(name: str) -> None:
    lines = read(name).csv.splitlines()
    assert parse("\r\n".join(lines)) == parse("\n".join(lines))


@pytest.mark.parametrize("name", names(FOLDER))
def test_gpus_of_a_case_have_different_uuids(name: str) -> None:
    uuids = [values["uuid"] for values in read(name).gpus if "uuid" in values]
    assert len(set(uuids)) == len(uuids)


def test_the_readme_shows_the_query_of_pi() -> None:
    assert f"nvidia-smi {gpus.QUERY} --format=csv,noheader,nounits\n" in (FOLDER / "README.md").read_text()


# the case, present GPUs, skipped lines, descriptions of the known GPUs 0 to 3
LOST = [
    ("all are present, and one more", [0, 1, 2, 3, 4], ["Warning: x"], []),
    ("two are missing without a reason", [0, 3], [], ["GPU 1, 2 lost"]),
    ("each with its own reason", [0, 2], ["1, x, ERR!", "3, y, [N/A]"], ["GPU 1 lost (nvidia-smi: 1, x, ERR!)",
                                                                     "GPU 3 lost (nvidia-smi: 3, y, [N/A])"]),
    ("a row of 11 is not one of 1", [0, 2, 3], ["11, x, ERR!", "No link"], ["GPU 1 lost (nvidia-smi: No link)"]),
    ("all are missing for one reason", [], ["nvidia-smi not found"], ["GPU 0, 1, 2, 3 lost (nvidia-smi: nvidia-smi not found)"]),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "unread", "lost"), [case[1:] for case in LOST], ids=[case[0] for case in LOST])
def test_lost_gpus_are_reported_with_the_output_of_nvidia_smi(
    seen: list[int], unread: list[str], lost: list[str]
) -> None:
    known = [Gpu(index, "A30", 24576) for index in range(4)]
    assert gpus.lost(known, [Gpu(index, "A30", 24576) for index in seen], unread) == lost


def test_gpus_are_sorted_and_a_repeated_index_is_skipped() -> None:
    found, skipped = parse("2, NVIDIA L4, 23034\n0, NVIDIA L4, 23034\n2, NVIDIA H100, 81559\n")
    assert [(gpu.id, gpu.name) for gpu in found] == [(0, "L4"), (2, "L4")]
    assert skipped == ["2, NVIDIA H100, 81559"]


def test_skipped_lines_are_safe_to_print() -> None:
    assert parse("\x1b]0;owned\x07\x1b[2Jnot a \x00GPU\n")[1] == ["not a GPU"]


def test_empty_output_has_no_gpus_and_no_skipped_lines() -> None:
    assert parse("") == ([], [])
    assert parse(" \r\n\n") == ([], [])


def test_only_the_beginning_of_a_megabyte_of_noise_is_reported() -> None:
    found, skipped = parse(read("h100_8").csv + "noise\n" * 200_000)
    assert len(found) == 8
    assert skipped[:20] == ["noise"] * 20
    assert len(skipped) == 21
    assert skipped[20].startswith("and 1")


def test_a_megabyte_in_one_line_is_not_a_gpu() -> None:
    found, skipped = parse("9" * 1_000_000)
    assert found == []
    assert skipped == ["everything after line 0: the output is too long"]


def test_a_line_cut_by_the_limit_is_skipped() -> None:
    row = "1, NVIDIA H100 80GB HBM3, 81559"
    before = "0, NVIDIA L4, 23034\n"
    filler = "x" * (gpus.MAX_TEXT - len(before) - len(row) + 1) + "\n"
    found, skipped = parse(before + filler + row + "\n")
    assert [gpu.memory_mib for gpu in found] == [23034]
    assert skipped[-1] == "everything after line 2: the output is too long"


@given(st.text() | st.lists(st.sampled_from([*"0123, []\n\r\"'\x1b\x00", "NVIDIA L4", "23034", "GPU-"])).map("".join))
def test_any_text_parses_without_a_crash(text: str) -> None:
    found, skipped = parse(text)
    assert all(0 <= gpu.id <= 999 and gpu.memory_mib > 0 and gpu.name.isprintable() for gpu in found)
    assert [gpu.id for gpu in found] == sorted({gpu.id for gpu in found})
    assert all("\n" not in line and "\x1b" not in line for line in skipped)


def test_free_memory_is_never_negative() -> None:
    assert Gpu(0, "L4", 23034, 5).free_mib == 23029
    assert Gpu(0, "L4", 23034, 30000).free_mib == 0


@pytest.mark.parametrize(
    ("mib", "label"),
    [(81559, "80GB"), (143771, "140GB"), (40960, "40GB"), (81920, "80GB"), (24564, "24GB"), (183359, "179GB")],
)
def test_a_label_is_whole_gigabytes(mib: int, label: str) -> None:
    assert memory_label(mib) == label


# a label as stored in pods.json, its MiB
LABELS = [
    ("80GB", 81920),
    ("80 GB", 81920),
    (" 80gb ", 81920),
    ("80", 81920),
    ("23.5GiB", 24064),
    ("81559 MiB", 81559),
    ("81559MB", 81559),
    ("", 0),
    ("GB", 0),
    ("-80GB", 0),
    ("80TB", 0),
    ("unknown", 0),
    ("9" * 400 + "GB", 0),
    ("٣GB", 0),
]


@pytest.mark.parametrize(("label", "mib"), LABELS, ids=[repr(label[:20]) for label, _ in LABELS])
def test_a_label_gives_its_memory_or_zero(label: str, mib: int) -> None:
    assert memory_mib(label) == mib
