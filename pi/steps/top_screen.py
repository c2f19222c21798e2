"""The live screen of `pi top`. The only module that imports rich; names from pods are text to it, never markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pi import screen
from pi.steps.states import COLOURS
from pi.steps.top import GPU_HEADERS, HEADERS, KEY_HEADERS, History, gpu_row, model_tables
from pi.text import one_line

BARS = "▁▂▃▄▅▆▇█"

WIDTH = 16
"""Samples in a sparkline."""

STYLES = {"32": "green", "33": "yellow", "31": "red", "2": "dim"}
"""rich's names for the colours of states."""


class TopScreen:
    """Draws the pods again and again, in place of what stands there; leaves the terminal as it was."""

    def __init__(self) -> None:
        self._live = Live(console=Console(markup=False, highlight=False), auto_refresh=False, screen=True)

    def __enter__(self) -> TopScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self, histories: Mapping[str, History], errors: Mapping[str, str]) -> None:
        self._live.update(drawing(histories, errors, self._live.console.width), refresh=True)


def drawing(histories: Mapping[str, History], errors: Mapping[str, str], columns: int) -> RenderableType:
    """Return the tables of all pods, at most so many columns wide."""
    parts: list[RenderableType] = []
    for pod, history in histories.items():
        parts.append(Text(pod, style="bold"))
        parts += [_plain(text, "red") for text in (errors.get(pod), history.problem) if text]
        parts += (
            [*_models(history, columns), _gpus(history), _keys(history)]
            if history.samples
            else [_plain("asking the pod", "dim")]
        )
    return Group(*parts)


def _models(history: History, columns: int) -> list[RenderableType]:
    if not history.loads():
        return [_plain("no models", "dim")]
    found = [
        (*map(screen.printable, load.row()), sparkline(history.output_rates(load.name))) for load in history.loads()
    ]
    return [
        _table(headers, screen.fitted(rows, headers, "MODEL", columns), states="STATE" in headers)
        for headers, rows in model_tables((*HEADERS, "OUT/S, LAST SAMPLES"), found, columns)
    ]


def _gpus(history: History) -> RenderableType:
    rows = [(*gpu_row(card), sparkline(history.gpu_use(card["index"]), 100)) for card in history.gpus()]
    return _table((*GPU_HEADERS, "USE, LAST SAMPLES"), rows) if rows else Text("")


def _keys(history: History) -> RenderableType:
    rows = [each.row() for each in history.key_loads()]
    return _table(KEY_HEADERS, rows) if rows else Text("")


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], states: bool = False) -> Table:
    """Return a table; with `states`, the second column has the colours of states."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(Text(header), no_wrap=True)
    for row in rows:
        styles = ["", STYLES.get(COLOURS.get(row[1], ""), "") if states else ""]
        table.add_row(*(_plain(cell, style) for cell, style in zip_longest(row, styles, fillvalue="")))
    return table


def _plain(text: str, style: str) -> Text:
    return Text(one_line(screen.printable(text), screen.CELL), style=style)


def sparkline(values: Sequence[float], highest: float | None = None) -> str:
    """Return bars for the last values, the highest one full."""
    shown = list(values[-WIDTH:])
    top = highest or max(shown, default=0)
    return "".join(BARS[min(len(BARS) - 1, int(value / top * len(BARS)))] if top > 0 else BARS[0] for value in shown)
