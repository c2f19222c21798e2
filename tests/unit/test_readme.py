"""README.md shows what pi prints."""

import dataclasses
import re
from pathlib import Path
from typing import get_args

import pytest

from chores.readme import README, renewed
from pi.prompt import events


def test_the_readme_shows_the_help_that_pi_prints() -> None:
    assert README.read_text() == renewed(), "run: inv readme"


@pytest.mark.parametrize("event", get_args(events.Event), ids=lambda event: event.kind)
def test_the_readme_names_the_fields_of_every_event(event: type) -> None:
    rows = [line.split("|")[1:3] for line in README.read_text().splitlines() if line.startswith("| `")]
    [told] = [fields for kinds, fields in rows if f"`{event.kind}`" in kinds]  # type: ignore[attr-defined]
    without_values = re.sub(r"`reason` \([^)]*\)", "`reason`", told)
    assert set(re.findall(r"`(\w+)`", without_values)) - {"turn_end"} == {f.name for f in dataclasses.fields(event)}


def test_the_readme_counts_the_streams_that_are_replayed() -> None:
    recordings = sorted((Path(__file__).parent / "prompt" / "streams").glob("*.sse"))
    assert f"reads {len(recordings)} recorded streams" in README.read_text()
    names = {"qwen", "qwen3", "hermes", "kimi", "glm", "gpt", "deepseek"}
    assert {path.stem.removeprefix("responses-").partition("-")[0] for path in recordings} == names
