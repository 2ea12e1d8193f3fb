"""Plots of what grows, and of updates on a device."""

from pathlib import Path

from ptmetrics.bench.growth import Growth


def draw(growth: Growth, path: Path) -> None:
    """One small picture: a line for each side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, line in growth.lines.items():
        points = {x: y for x, y in line.items() if y > 0 or not growth.logarithmic}
        axes.plot(list(points), list(points.values()), "o-", label=name, markersize=4)
    if growth.logarithmic:
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=growth.title, xlabel=growth.x, ylabel=growth.y)
    axes.title.set_fontsize("medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
