"""Ids that are close to a mistyped one."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from pi.planning.catalog import Catalog
from pi.planning.families import Families, plain

CLOSE = 0.8
"""Least similarity of two names, 0 to 1, that makes one a likely misspelling of the other."""

BEGINNING = 0.1

MOST = 3

LEAST_LETTERS = 5
"""Letters and digits of a name that may be the beginning of a longer one, such as "llama3.3"."""


def near_misses(model: str, catalog: Catalog, families: Families) -> tuple[str, ...]:
    """Return up to three known ids whose names are close to this one or begin like it, the closest first.

    Ids with the same name and another owner come alone.
    """
    wanted = plain(model)
    ids = dict.fromkeys([variant.id for spec in catalog.models for variant in spec.variants] + list(families.ids))
    scored = sorted(((_closeness(wanted, plain(each)), -len(each), each) for each in ids), reverse=True)
    least = 1.0 if scored and scored[0][0] == 1 else CLOSE
    return tuple(each for score, _, each in scored[:MOST] if score >= least and each.lower() != model.lower())


def _closeness(wanted: str, name: str) -> float:
    """Return the similarity of two names. A name counts less if one of the two is only the beginning of the other."""
    begins = len(_letters(wanted)) >= LEAST_LETTERS and _letters(name).startswith(_letters(wanted))
    copies = 1 - BEGINNING if wanted.startswith(f"{name}-") else 0.0
    begin = _ratio(wanted, _begin(name, wanted)) - BEGINNING
    return max(_ratio(wanted, name), begin, copies, CLOSE if begins else 0.0)


def _letters(name: str) -> str:
    return re.sub(r"[-_.]", "", name)


def _begin(name: str, wanted: str) -> str:
    """Return as many words of a name as the wanted one has."""
    return "-".join(name.split("-")[: wanted.count("-") + 1])


def _ratio(one: str, other: str) -> float:
    matcher = SequenceMatcher(None, one, other)
    return matcher.ratio() if matcher.real_quick_ratio() >= CLOSE else 0.0
