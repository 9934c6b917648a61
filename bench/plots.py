"""The pictures that README and docs show, as SVG: ``--plots``, or ``python -m bench.plots [FILE [FOLDER]]``.

The latter draws a run that was kept. There are three: throughput and memory by how much is in flight, and processor
time per request. They are on white, so that they can be read on a page of any colour, and have no date in them: a run
that is the same is the same file.
"""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING, Any

from bench import results
from bench.contenders import CONTENDERS, REPOSITORY
from bench.tables import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.measure import Measured

#: A colour for each line; crawlpool's is the strongest.
COLOURS = {
    "map_curl": "#c2410c",
    "map_urllib3": "#d99058",
    "aiohttp": "#1d4ed8",
    "session_per_thread": "#15803d",
    "pycurl_multi": "#6b7280",
}
_OURS, _BARE, _OTHERS = "#c2410c", "#9ca3af", "#7da0d8"
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "crawlpool",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b7280",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def draw(found: Iterable[Measured], folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw what a run has figures for; return the files.

    Args:
        found: a run, or a part of one: a picture for which there is nothing isn't drawn.
        folder: where they go; it is made.
    """
    import matplotlib

    matplotlib.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    runs = list(found)
    by_in_flight = sorted(
        (one for one in runs if one.workload.slug.startswith("latency-")), key=lambda one: one.workload.in_flight
    )
    one_host = next((one for one in runs if one.workload.slug == "one-http"), None)
    made = []
    with matplotlib.rc_context(_STYLE):
        if len(by_in_flight) > 1:
            made.append(_throughput(by_in_flight, folder / "bench-throughput.svg"))
            made.append(_memory(by_in_flight, folder / "bench-memory.svg"))
        if one_host is not None and one_host.rounds:
            made.append(_cpu(one_host, folder / "bench-cpu.svg"))
    return made


def _throughput(runs: Sequence[Measured], path: pathlib.Path) -> pathlib.Path:
    title = "Requests a second, by how many are in flight (20 kB, 50 ms latency)"
    figure, axes = _by_in_flight(runs, title, lambda one, contender: one.per_second(contender))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.minorticks_off()
    counts = [one.workload.in_flight for one in runs]
    delay_s = runs[0].workload.delay_s
    axes.plot(counts, [count / delay_s for count in counts], color="#9ca3af", linestyle=":", zorder=1)
    near = counts[-2], counts[-2] / delay_s
    axes.annotate("what the latency allows", near, (-8, 4), textcoords="offset points", ha="right", color="#6b7280")
    return _save(figure, path)


def _memory(runs: Sequence[Measured], path: pathlib.Path) -> pathlib.Path:
    title = "Peak memory of the process in MiB, by how many requests are in flight"
    figure, axes = _by_in_flight(runs, title, lambda one, contender: one.peak_bytes(contender) / MIB)
    axes.set_ylim(bottom=0)
    return _save(figure, path)


def _by_in_flight(runs: Sequence[Measured], title: str, value_of: Callable[[Measured, str], float]) -> tuple[Any, Any]:
    """Draw a line for each contender that has a figure at several counts, its name at its end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xscale("log")
    counts = [one.workload.in_flight for one in runs]
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("in flight")
    axes.grid(axis="y", color="#e5e7eb")
    for contender, colour in COLOURS.items():
        points = [(one.workload.in_flight, value_of(one, contender)) for one in runs if one.rounds.get(contender)]
        if len(points) > 1:
            is_ours = CONTENDERS[contender].needs == "crawlpool"
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker="o",
                markersize=4,
                linewidth=2.4 if is_ours else 1.6,
                label=CONTENDERS[contender].label,
            )
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure, axes


def _cpu(one: Measured, path: pathlib.Path) -> pathlib.Path:
    """Draw a bar for each contender, the least first."""
    from matplotlib.figure import Figure

    contenders = sorted((name for name in one.rounds if name != "wrk"), key=one.cpu_us)
    values = [one.cpu_us(name) for name in contenders]
    figure = Figure(figsize=(8, 0.3 * len(contenders) + 1), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Processor time of the client per request in µs (one HTTP host, 20 kB)")
    colours = [_colour(name) for name in contenders]
    bars = axes.barh([CONTENDERS[name].label for name in contenders], values, color=colours, height=0.7)
    axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=4)
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(left=False)
    axes.set_xticks([])
    axes.margins(x=0.1)
    return _save(figure, path)


def _colour(contender: str) -> str:
    if CONTENDERS[contender].needs == "crawlpool":
        return _OURS
    return _BARE if contender.startswith("pycurl") else _OTHERS


def _save(figure: Any, path: pathlib.Path) -> pathlib.Path:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path


def main() -> None:
    """Draw a run that was kept."""
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else results.LATEST
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else REPOSITORY / "docs" / "images"
    for drawn in draw(results.load(path), folder):
        print(drawn)


if __name__ == "__main__":
    main()
