"""README.md and docs/ show what pi prints, name what exists, and stay short."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from chores.docs import ROOT, blocks, commands, pages, same
from pi.planning.offers import Offer
from pi.planning.plan_json import MemoryJson, PlanJson
from pi.prompt import events
from tests.rig.command import program
from tests.rig.shown import check, started

README, PROMPT, TESTING = ROOT / "README.md", ROOT / "docs" / "prompt.md", ROOT / "docs" / "testing.md"
MODELS = ROOT / "docs" / "models.md"

TEXTS = [*pages(), *(ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "SECURITY"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def local(command: str) -> str:
    """Run a command that needs no pod, in the checkout."""
    path = f"{program('pi').parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("LANG", "LC_", "PYTHON"))}
    running = started(command, {**environment, "PATH": path, "LANG": "C.UTF-8"}, ROOT)
    printed = running.communicate(timeout=120)[0].decode()
    assert running.returncode == 0, printed
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page, from_pod=False)], ids=name_of)
def test_page_shows_what_commands_print(page: Path) -> None:
    check(page, local)


@pytest.mark.parametrize("page", [page for page in pages() if page != README], ids=name_of)
def test_page_begins_with_a_command(page: Path) -> None:
    title, first = page.read_text().split("\n\n", 1)
    assert title.startswith("# ") and first.startswith("<!-- output")
    assert commands(first)


def test_readme_has_at_most_900_words() -> None:
    assert len(README.read_text().split()) <= 900


LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for file, anchor in LINK.findall(text):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that a forge gives to the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("event", get_args(events.Event), ids=lambda event: event.kind)
def test_prompt_page_names_the_fields_of_every_event(event: type) -> None:
    rows = [line.split("|")[1:3] for line in PROMPT.read_text().splitlines() if line.startswith("| `")]
    [cell] = [fields for kinds, fields in rows if f"`{event.kind}`" in kinds]  # type: ignore[attr-defined]
    without_values = re.sub(r"`reason` \([^)]*\)", "`reason`", cell)
    assert set(re.findall(r"`(\w+)`", without_values)) - {"turn_end"} == {f.name for f in dataclasses.fields(event)}


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("| key of a plan |", {*get_type_hints(PlanJson), *get_type_hints(MemoryJson)}),
        ("| key of an offer |", set(Offer("org/model", "", "more").as_json())),
    ],
)
def test_models_page_names_the_keys_of_the_json(heading: str, keys: set[str]) -> None:
    [table] = [part for part in MODELS.read_text().split("\n\n") if part.startswith(heading)]
    named, described = zip(*(line.split("|")[1:3] for line in table.splitlines()[2:]), strict=True)
    assert keys <= set(re.findall(r"`(\w+)`", " ".join((*named, *described))))
    assert set(re.findall(r"`(\w+)`", " ".join(named))) <= keys


def test_testing_page_counts_the_recorded_streams() -> None:
    recordings = sorted((Path(__file__).parent / "prompt" / "streams").glob("*.sse"))
    assert f"reads {len(recordings)} recorded streams" in TESTING.read_text()
    names = {"qwen", "qwen3", "hermes", "kimi", "glm", "gpt", "deepseek"}
    assert {path.stem.removeprefix("responses-").partition("-")[0] for path in recordings} == names


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("ready after 1.0 s", "ready after 12.34 s", True),
        ("pid 17 at 12:03", "pid 4711 at 23:59", True),
        ("NAME  STATE", "NAME      STATE", True),
        ("port 8001", "port 8002", False),
        ("2 GPUs", "3 GPUs", False),
    ],
)
def test_outputs_are_compared_without_what_varies(shown: str, printed: str, is_same: bool) -> None:
    assert same(shown, printed) is is_same


ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()

CHANGES = ARCHITECTURE.partition("| change | place |\n")[2].splitlines()[1:]


@pytest.mark.parametrize("row", CHANGES, ids=lambda row: row.split("|")[1].strip())
def test_architecture_names_files_and_what_is_in_them(row: str) -> None:
    named = re.findall(r"`([^`]+)`", row.split("|")[2])
    paths = [name for name in named if "/" in name or name.endswith((".py", ".toml"))]
    found = [next((top / path for top in (ROOT / "pi", ROOT) if (top / path).exists()), None) for path in paths]
    assert None not in found, paths
    text = "".join(path.read_text() for path in found if path and path.is_file())
    for word in (name for name in named if re.fullmatch(r"[A-Z]\w+", name)):
        assert re.search(rf"\b{word}\b", text), word
