"""The correction of one argument after a failed start, by the logs of tests/cases/failures."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi.vllm.arguments import Arguments
from pi.vllm.corrections import RULES, correction
from tests.rig.cases import names
from tests.unit.vllm.test_log import FOLDER, HOSTILE, PIECES, read

CASES = [name for name in names(FOLDER) if read(name).correction]


def parsed(words: str) -> Arguments:
    return Arguments.parse(shlex.split(words))


def corrected(name: str, *fixed: str) -> str | None:
    case = read(name)
    found = correction(case.log, case.exit_code, parsed(case.args), fixed)
    return f"{found.option} {found.value}" if found else None


@pytest.mark.parametrize("name", names(FOLDER))
def test_log_gives_the_correction_of_its_case(name: str) -> None:
    assert corrected(name) == read(name).correction


@pytest.mark.parametrize("name", CASES)
def test_an_option_that_the_user_set_is_never_corrected(name: str) -> None:
    option = str(read(name).correction).split()[0]
    for fixed in (option, option[:-1]):
        assert not str(corrected(name, fixed)).startswith(option)


@pytest.mark.parametrize("name", CASES)
def test_a_correction_changes_one_option_alone(name: str) -> None:
    case = read(name)
    found = correction(case.log, case.exit_code, parsed(case.args))
    assert found
    before, after = parsed(case.args), found.applied(parsed(case.args))
    assert after.get(found.option) == found.value
    assert {item.name for item in after.items} == {item.name for item in before.items} | {found.option}


@pytest.mark.parametrize("name", CASES)
def test_what_a_correction_set_is_not_corrected_to_the_same(name: str) -> None:
    case = read(name)
    found = correction(case.log, case.exit_code, parsed(case.args))
    assert found
    again = correction(case.log, case.exit_code, found.applied(parsed(case.args)))
    assert again is None or (again.option, again.value) != (found.option, found.value)


@pytest.mark.parametrize(
    ("name", "fixed", "correction"),
    [
        ("batch_below_sequences", "--max-num-seqs", "--max-num-batched-tokens 256"),
        ("batch_below_context", "--max-num-batched-tokens", None),
        ("graph_capture_out_of_memory", "--max-num-seqs", "--max-cudagraph-capture-size 128"),
    ],
)
def test_if_the_user_set_one_of_two_options_the_other_is_corrected(
    name: str, fixed: str, correction: str | None
) -> None:
    assert corrected(name, fixed) == correction


def test_every_rule_has_a_case() -> None:
    causes = [read(name).cause for name in CASES]
    assert [pattern for pattern, _ in RULES if not any(re.search(pattern, cause) for cause in causes)] == []


def test_words_of_a_prompt_or_a_warning_correct_nothing() -> None:
    said = "max_num_seqs (1024) exceeds available Mamba cache blocks (856)"
    log = f"(EngineCore pid=1) WARNING 11-23 14:52:16 [a.py:1] {said}\nValueError: another cause\n"
    assert correction(log, 1, Arguments()) is None


LOGS = [*PIECES, *HOSTILE, *(read(name).log for name in CASES)]


@given(st.lists(st.integers(0, len(LOGS) - 1).map(LOGS.__getitem__), max_size=4))
@settings(max_examples=50)
def test_any_log_gives_a_short_number_or_nothing(pieces: list[str]) -> None:
    found = correction("\n".join(pieces), 1, Arguments())
    assert found is None or (float(found.value) > 0 and len(found.value) < 10 and found.reason.isprintable())
