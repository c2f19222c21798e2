"""A plot of throughput against latency in the terminal. The only module that imports plotext.

plotext 5 is Python alone; plotext 6 loads a compiled library, and its functions have other names.
"""

from __future__ import annotations

import plotext

from pi.steps.benchmarks import Result, curve

WIDTH, HEIGHT = 76, 16


def plot(result: Result, columns: int) -> str:
    """Return the plot: each number is a level, at its throughput and its time between tokens."""
    throughput, latency, labels = curve(result)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(WIDTH, columns), HEIGHT)
    plotext.plot(throughput, latency)
    for x, y, label in zip(throughput, latency, labels, strict=True):
        plotext.text(label, x, y, alignment="right" if x == max(throughput) else "left")
    plotext.xlabel("output tokens/s of all requests")
    plotext.title("ms between tokens (p50), by requests at once")
    return str(plotext.uncolorize(plotext.build())).rstrip()
