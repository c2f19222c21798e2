"""Check the inputs of earlier fuzzing against the oracles again (`inv fuzz` searches for more)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig.oracles import ORACLES

CORPUS = Path(__file__).parents[1] / "fixtures" / "fuzz"


@pytest.mark.parametrize("parser", ORACLES)
def test_every_kept_input_satisfies_its_oracle(parser: str) -> None:
    kept = sorted((CORPUS / parser).iterdir())
    assert len(kept) >= 20
    for path in kept:
        try:
            ORACLES[parser](path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{path.name}: {path.read_bytes()!r}") from error


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 300_000
