"""What `nvidia-smi` answers, and what pi reads in it.

The fixtures are answers to `gpus.QUERY`: names, sizes, capabilities and error words as these cards and drivers
print them, UUIDs made up.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.pods import gpus
from pi.pods.gpus import Gpu, memory_label, memory_mib, parse

ANSWERS = Path(__file__).parents[2] / "fixtures" / "nvidia_smi"


def answer(name: str) -> str:
    return (ANSWERS / name).read_bytes().decode()


# the case, its fixture, [(id, name, MiB, MiB in use, compute capability, driver)]
READ = [
    (
        "eight H100",
        "h100_8.csv",
        [(i, "H100 80GB HBM3", 81559, 1, (9, 0), "570.133.20") for i in range(8)],
    ),
    (
        "eight H200, half of them in use",
        "h200_8.csv",
        [(i, "H200", 143771, 125301 if i % 4 > 1 else 0, (9, 0), "580.159.03") for i in range(8)],
    ),
    (
        "sixteen A100 of 40 GB",
        "a100_40gb_16.csv",
        [(i, "A100-SXM4-40GB", 40960, 4, (8, 0), "550.90.07") for i in range(16)],
    ),
    (
        "four A100 of 80 GB",
        "a100_80gb_4.csv",
        [(i, "A100 80GB PCIe", 81920, 17, (8, 0), "535.161.08") for i in range(4)],
    ),
    (
        "two RTX 4090, one with a desktop on it",
        "rtx_4090_2.csv",
        [(i, "GeForce RTX 4090", 24564, (391, 4)[i], (8, 9), "560.35.03") for i in range(2)],
    ),
    ("four L40S", "l40s_4.csv", [(i, "L40S", 46068, 1, (8, 9), "550.127.05") for i in range(4)]),
    (
        "eight B200, of a capability with two digits",
        "b200_8.csv",
        [(i, "B200", 183359, 0, (10, 0), "580.126.20") for i in range(8)],
    ),
    ("a slice that is a vGPU", "mig_vgpu.csv", [(0, "H100L-2-24C", 24576, 0, (9, 0), "550.90.07")]),
    (
        "memory in use that the card cannot tell",
        "used_not_supported.csv",
        [(0, "Tesla V100-SXM2-16GB", 16160, 0, (7, 0), "418.87.00")],
    ),
    (
        "a name with a comma",
        "name_with_comma.csv",
        [(0, "RTX PRO 6000 Blackwell, Server Edition", 97887, 2, (12, 0), "580.95.05")],
    ),
]


@pytest.mark.parametrize(("file", "cards"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_cards_are_read_whole_and_nothing_is_skipped(file: str, cards: list[tuple[object, ...]]) -> None:
    found, skipped = parse(answer(file))
    assert [
        (gpu.id, gpu.name, gpu.memory_mib, gpu.used_mib, gpu.compute_capability, gpu.driver) for gpu in found
    ] == cards
    assert skipped == []
    assert all(len(gpu.uuid) == len("GPU-") + 36 for gpu in found)
    assert len({gpu.uuid for gpu in found}) == len(cards)


# the case, its fixture, the ids of the GPUs that are read, how each skipped line begins
SKIPPED = [
    (
        "a lost GPU and one that must be reset are no GPUs",
        "gpu_lost.csv",
        [0, 2],
        ["Unable to determine the device handle for GPU0000:17:00.0", "1, [Unknown Error]", "3, NVIDIA A30"],
    ),
    ("ERR! in a cell is a broken GPU", "err.csv", [0], ["1, NVIDIA RTX 4000 Ada Generation"]),
    (
        "warnings before and after",
        "warnings.csv",
        [0],
        ["Warning: persistence mode is disabled", "WARNING: infoROM is corrupted"],
    ),
    ("a MIG slice in a container hides its memory", "mig_in_container.csv", [], ["0, NVIDIA A100-SXM4-80GB"]),
    ("unified memory is not told", "unified_memory.csv", [], ["0, NVIDIA GB10, [N/A], [N/A]"]),
    ("no driver", "no_driver.csv", [], ["NVIDIA-SMI has failed because it couldn't communicate"]),
    (
        "a driver that does not match its library",
        "driver_mismatch.csv",
        [],
        ["Failed to initialize NVML: Driver/library version mismatch", "NVML library version: 550.54"],
    ),
    ("no card", "no_devices.csv", [], ["No devices were found"]),
    ("a driver that does not know the question", "old_driver.csv", [], ['Field "compute_cap" is not']),
]


@pytest.mark.parametrize(
    ("file", "ids", "beginnings"), [case[1:] for case in SKIPPED], ids=[case[0] for case in SKIPPED]
)
def test_what_cannot_be_read_is_skipped_and_told(file: str, ids: list[int], beginnings: list[str]) -> None:
    found, skipped = parse(answer(file))
    assert [gpu.id for gpu in found] == ids
    assert len(skipped) == len(beginnings)
    assert all(line.startswith(beginning) for line, beginning in zip(skipped, beginnings, strict=True))


# the case, what is seen, what could not be read, what is told of the known GPUs 0 to 3
LOST = [
    ("all are there, and one more", [0, 1, 2, 3, 4], ["Warning: x"], []),
    ("two are gone without a word", [0, 3], [], ["GPU 1, 2 lost"]),
    ("each in its own words", [0, 2], ["1, x, ERR!", "3, y, [N/A]"], ["GPU 1 lost (nvidia-smi: 1, x, ERR!)",
                                                                     "GPU 3 lost (nvidia-smi: 3, y, [N/A])"]),
    ("a row of 11 is not one of 1", [0, 2, 3], ["11, x, ERR!", "No link"], ["GPU 1 lost (nvidia-smi: No link)"]),
    ("all are gone for one reason", [], ["nvidia-smi not found"], ["GPU 0, 1, 2, 3 lost (nvidia-smi: nvidia-smi not found)"]),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "unread", "told"), [case[1:] for case in LOST], ids=[case[0] for case in LOST])
def test_lost_gpus_are_told_with_the_words_of_nvidia_smi(seen: list[int], unread: list[str], told: list[str]) -> None:
    known = [Gpu(index, "A30", 24576) for index in range(4)]
    assert gpus.lost(known, [Gpu(index, "A30", 24576) for index in seen], unread) == told


UUID = "GPU-9b44baf5-264e-d787-f87a-7976ad448abd"
WHOLE = f"0, NVIDIA L4, 23034, 5, {UUID}, 8.9, 550.127.05"
L4 = Gpu(0, "L4", 23034, 5, UUID, (8, 9), "550.127.05")

# the case, one line of an answer, its GPU
LINES = [
    ("the whole line", WHOLE, L4),
    ("a line that ends as on Windows", f"{WHOLE}\r\n", L4),
    ("no spaces", WHOLE.replace(", ", ","), L4),
    ("units in spite of nounits", WHOLE.replace("23034", "23034 MiB").replace(" 5,", " 5 MiB,"), L4),
    ("three columns", "0, NVIDIA L4, 23034", Gpu(0, "L4", 23034)),
    (
        "columns that are not available",
        "0, NVIDIA L4, 23034, [N/A], [N/A], [N/A], [N/A]",
        Gpu(0, "L4", 23034),
    ),
    (
        "columns that are not supported",
        "0, NVIDIA L4, 23034, [Not Supported], [N/A], 8.9, [N/A]",
        Gpu(0, "L4", 23034, compute_capability=(8, 9)),
    ),
    (
        "a uuid of a slice is not a GPU's",
        WHOLE.replace("GPU-", "MIG-"),
        Gpu(0, "L4", 23034, 5, "", (8, 9), "550.127.05"),
    ),
    ("a driver with more than digits", WHOLE.replace("550.127.05", "$(reboot)"), Gpu(0, "L4", 23034, 5, UUID, (8, 9))),
    (
        "a quote in a name is a quote",
        WHOLE.replace("L4", 'L4 24"'),
        Gpu(0, 'L4 24"', 23034, 5, UUID, (8, 9), "550.127.05"),
    ),
    ("a name without the vendor", "0, Tesla T4, 15360", Gpu(0, "Tesla T4", 15360)),
    ("a name of 300 characters is cut", f"0, {'x' * 300}, 15360", Gpu(0, "x" * 100, 15360)),
    ("colour in a name", WHOLE.replace("L4", "\x1b[31mL4\x1b[0m"), None),
    ("text that turns round in a name", WHOLE.replace("L4", "L\u202e4"), None),
    ("no name", "0, , 23034", None),
    ("no index", "NVIDIA L4, 23034, 5", None),
    ("a negative index", "-1, NVIDIA L4, 23034", None),
    ("an index of four digits", "1000, NVIDIA L4, 23034", None),
    ("an index in other digits", "٣, NVIDIA L4, 23034", None),
    ("no memory at all", "0, NVIDIA L4, 0", None),
    ("memory that is not available", "0, NVIDIA L4, [N/A], 5", None),
    ("memory with a fraction", "0, NVIDIA L4, 23034.5", None),
    ("negative memory", "0, NVIDIA L4, -23034", None),
    ("memory in use that is an error", WHOLE.replace(" 5,", " ERR!,"), None),
    ("a GPU that is lost", WHOLE.replace(" 5,", " [GPU is lost],"), None),
    ("two columns", "0, NVIDIA L4", None),
    ("a heading", "index, name, memory.total [MiB]", None),
]


@pytest.mark.parametrize(("line", "gpu"), [case[1:] for case in LINES], ids=[case[0] for case in LINES])
def test_a_line_is_one_gpu_or_none(line: str, gpu: Gpu | None) -> None:
    found, skipped = parse(line)
    assert found == ([gpu] if gpu else [])
    assert len(skipped) == (0 if gpu else 1)


def test_a_whole_answer_with_windows_line_ends() -> None:
    assert parse(answer("h100_8.csv").replace("\n", "\r\n")) == parse(answer("h100_8.csv"))


def test_an_index_counts_once_and_gpus_come_in_order() -> None:
    found, skipped = parse("2, NVIDIA L4, 23034\n0, NVIDIA L4, 23034\n2, NVIDIA H100, 81559\n")
    assert [(gpu.id, gpu.name) for gpu in found] == [(0, "L4"), (2, "L4")]
    assert skipped == ["2, NVIDIA H100, 81559"]


def test_skipped_lines_are_safe_to_print() -> None:
    assert parse("\x1b]0;owned\x07\x1b[2Jnot a \x00GPU\n")[1] == ["not a GPU"]


def test_an_empty_answer_has_no_gpus_and_no_complaint() -> None:
    assert parse("") == ([], [])
    assert parse(" \r\n\n") == ([], [])


def test_of_a_megabyte_of_noise_the_beginning_is_told() -> None:
    found, skipped = parse(answer("h100_8.csv") + "noise\n" * 200_000)
    assert len(found) == 8
    assert skipped[:20] == ["noise"] * 20
    assert len(skipped) == 21
    assert skipped[20].startswith("and 1")


def test_a_megabyte_in_one_line_is_no_gpu() -> None:
    found, skipped = parse("9" * 1_000_000)
    assert found == []
    assert skipped == ["all after the first 0 lines: the answer is too long"]


def test_the_line_at_which_reading_stops_is_not_read_in_part() -> None:
    row = "1, NVIDIA H100 80GB HBM3, 81559"
    before = "0, NVIDIA L4, 23034\n"
    filler = "x" * (gpus.MAX_TEXT - len(before) - len(row) + 1) + "\n"
    found, skipped = parse(before + filler + row + "\n")
    assert [gpu.memory_mib for gpu in found] == [23034]
    assert skipped[-1] == "all after the first 2 lines: the answer is too long"


@given(st.text() | st.lists(st.sampled_from([*"0123, []\n\r\"'\x1b\x00", "NVIDIA L4", "23034", "GPU-"])).map("".join))
def test_any_text_is_read_without_a_crash(text: str) -> None:
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
def test_a_label_says_its_memory_or_nothing(label: str, mib: int) -> None:
    assert memory_mib(label) == mib
