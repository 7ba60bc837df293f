"""Fig. 8: zcipc and other libraries, from the table `peers`: ranked at a few sizes, and each over all sizes.

A row or a panel is a system. Shape says how it waits (a circle spins, a square sleeps), filling says whether the message is
copied or lies in shared memory. Points are medians over launches with their 95 % confidence interval.
"""

from collections.abc import Sequence
from math import ceil, log
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator

from zcipc.lab.harness.stats import summarise
from zcipc.lab.peers import BLOCK, COPY, LOAN, PEERS
from zcipc.lab.plots import style
from zcipc.lab.plots.style import LIMIT, ThemedFigure

RANKED_AT = (64, 8 << 10, 1 << 20)
"""The sizes, in bytes, at which systems are ranked, or what of those measured is nearest."""

_OURS = "zcipc"
_OURS_BLUE = style.TRANSPORTS["zcipc"].color
_BAND = "#e8f1f8"
_OTHERS = "#4d4d4d"
_SERIES = ["system", "mode", "face", "message_bytes"]
_OFFSETS = {(False, COPY): 0.24, (False, LOAN): 0.08, (True, COPY): -0.08, (True, LOAN): -0.24}  # by (sleeps, face)
_COLUMNS = 4
_TITLES = {"multiprocessing.SimpleQueue": "mp.SimpleQueue", "multiprocessing.Queue": "mp.Queue"}
_TITLES |= {"multiprocessing.Pipe": "mp.Pipe", "posix_ipc.MessageQueue": "posix_ipc queue"}
_TITLES |= {"cloudtoid-interprocess": "cloudtoid"}


def peers(frame: pd.DataFrame) -> ThemedFigure:
    """Round trips at three sizes, tails at the smallest, rates one way at the smallest and the largest of the three."""
    limit = _limit(frame)
    drawn = frame[frame["system"] != LIMIT]
    sizes = _nearest(sorted(drawn["message_bytes"].unique()), RANKED_AT)
    systems = _ranked(drawn, sizes[0])
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN, 1.3 + 0.36 * len(systems)), layout="constrained")
        panels = figure.subplots(2, len(RANKED_AT), sharey=True)
        for axes, size in zip(panels[0], sizes, strict=False):
            _dots(axes, systems, _summary(drawn, "round_trip_ns", size))
            _limit_line(axes, limit)
            _time_axis(axes)
            axes.set_title(f"round trip, {style.format_bytes(size)}")
        for axes in panels[0, len(sizes) :]:
            axes.set_visible(False)
        tails, messages, volume = panels[1]
        _tails(tails, systems, drawn, sizes[0])
        _time_axis(tails)
        tails.set_title(f"{style.format_bytes(sizes[0])}: p50, p99, p99.9")
        for axes, column, size, unit in (
            (messages, "messages_per_s", sizes[0], "messages/s"),
            (volume, "bytes_per_s", sizes[-1], "bytes/s"),
        ):
            _dots(axes, systems, _summary(drawn, column, size))
            axes.set_xscale("log")
            style.rate_axis(axes.xaxis)
            axes.set_title(f"one way, {style.format_bytes(size)}: {unit}")
        for row in panels:
            _name_rows(row, systems)
        for letter, axes in zip("abcdef", [axes for axes in panels.flat if axes.get_visible()], strict=False):
            axes.set_title(f"({letter})  {axes.get_title(loc='left')}")
        figure.legend(handles=_legend(), loc="outside upper center", ncols=4, columnspacing=2.0)
    return figure


def peers_by_size(frame: pd.DataFrame) -> ThemedFigure:
    """Round trips over all sizes, a panel for each system; zcipc's, copied and spinning, is in every panel for reference."""
    limit = _limit(frame)
    drawn = frame[frame["system"] != LIMIT]
    sizes = sorted(int(size) for size in drawn["message_bytes"].unique())
    systems = _ranked(drawn, sizes[0])
    summary = summarise(drawn, by=_SERIES, value="round_trip_ns")
    reference = summary[(summary["system"] == _OURS) & (summary["mode"] != BLOCK) & (summary["face"] == COPY)]
    rows = ceil(len(systems) / _COLUMNS)
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN, 0.6 + 1.45 * rows), layout="constrained")
        panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, system in zip(panels.flat, systems, strict=False):
            if system != _OURS:
                axes.plot(reference["message_bytes"], reference["value"], color=_OURS_BLUE, linewidth=0.8, alpha=0.7)
            for (mode, face), line in summary[summary["system"] == system].groupby(["mode", "face"]):
                look = _look(system, mode, face) | {"linestyle": (0, (3, 1.5)) if mode == BLOCK else "-"}
                places = line["message_bytes"]
                axes.fill_between(places, line["low"], line["high"], color=look["color"], alpha=0.15, linewidth=0)
                axes.plot(places, line["value"], **look)
            if limit is not None:
                axes.axhline(limit, color=style.LIMIT_GREY, linewidth=0.8, linestyle=":", gid=LIMIT)
            axes.set_title(_title(system))
            style.size_axis(axes, sizes)
            axes.xaxis.set_major_locator(FixedLocator(sizes[:: max((len(sizes) - 1) // 2, 1)]))
            axes.set_yscale("log")
        values = summary["value"] if limit is None else [*summary["value"], limit]
        panels[0, 0].set_ylim(min(values) / 1.8, max(values) * 1.8)
        style.time_axis(panels[0, 0].yaxis)
        for axes in panels.flat[len(systems) :]:
            axes.set_visible(False)
        for axes in panels.flat[max(len(systems) - _COLUMNS, 0) : len(systems)]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("message size", fontsize=7)
        figure.supylabel("round-trip time", fontsize=7)
        figure.legend(handles=_legend(reference=True), loc="outside upper center", ncols=3, columnspacing=2.0)
    return figure


def _limit(frame: pd.DataFrame) -> float | None:
    """The bare exchange of a cache line, in ns; None if it was not measured."""
    rows = frame[frame["system"] == LIMIT]
    return None if rows.empty else float(summarise(rows, by=["system"], value="round_trip_ns")["value"].iloc[0])


def _summary(frame: pd.DataFrame, value: str, size: int) -> pd.DataFrame:
    return summarise(frame[frame["message_bytes"] == size], by=_SERIES, value=value)


def _ranked(frame: pd.DataFrame, size: int) -> list[str]:
    """The systems, the fastest at `size` first; one that was not measured there last."""
    best = _summary(frame, "round_trip_ns", size).groupby("system")["value"].min()
    return sorted(frame["system"].unique(), key=lambda system: (best.get(system, np.inf), system))


def _nearest(measured: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """For each size wanted the nearest one measured, each once."""
    return list(dict.fromkeys(int(min(measured, key=lambda size: abs(log(size / target)))) for target in wanted))


def _title(system: str) -> str:
    title = PEERS[system].title
    return _TITLES.get(title, title)


def _look(system: str, mode: str, face: str) -> dict[str, Any]:
    color = _OURS_BLUE if system == _OURS else _OTHERS
    shape = "s" if mode == BLOCK else "o"
    filled = {"markerfacecolor": color if face == COPY else "white", "markeredgecolor": color}
    return {"color": color, "marker": shape, "markersize": 3.6, "markeredgewidth": 0.8, **filled}


def _rows_of(systems: Sequence[str], summary: pd.DataFrame) -> Any:
    """Each row of `summary` with its height in a panel; the first system is on top."""
    heights = {system: len(systems) - 1 - index for index, system in enumerate(systems)}
    for row in summary.itertuples():
        yield row, heights[row.system] + _OFFSETS[row.mode == BLOCK, row.face]


def _dots(axes: Axes, systems: Sequence[str], summary: pd.DataFrame) -> None:
    for row, height in _rows_of(systems, summary):
        look = _look(row.system, row.mode, row.face)
        axes.plot([row.low, row.high], [height, height], color=look["color"], linewidth=0.8, alpha=0.6)
        axes.plot([row.value], [height], linestyle="none", **look)
    # An interval over few launches may leave the panel; a median may not.
    axes.set_xlim(summary["value"].min() / 2, summary["value"].max() * 2)


def _tails(axes: Axes, systems: Sequence[str], frame: pd.DataFrame, size: int) -> None:
    """From the median on by a line to p99 and, where enough round trips were timed, to p99.9, each with a tick."""
    columns = {name: _summary(frame, name, size).set_index(_SERIES)["value"] for name in ("p50_ns", "p99_ns", "p999_ns")}
    points = pd.DataFrame(columns).reset_index()
    for row, height in _rows_of(systems, points):
        look = _look(row.system, row.mode, row.face)
        tail = [value for value in (row.p99_ns, row.p999_ns) if np.isfinite(value)]
        axes.plot([row.p50_ns, *tail], [height] * (1 + len(tail)), color=look["color"], linewidth=0.8)
        axes.plot(tail, [height] * len(tail), linestyle="none", marker="|", markeredgecolor=look["color"])
        axes.plot([row.p50_ns], [height], linestyle="none", **look)


def _time_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    style.time_axis(axes.xaxis)


def _limit_line(axes: Axes, limit: float | None) -> None:
    if limit is None:
        return
    axes.set_xlim(left=min(axes.get_xlim()[0], limit / 1.8))
    axes.axvline(limit, color=style.LIMIT_GREY, linewidth=0.8, gid=LIMIT)
    axes.annotate(
        style.LIMIT_LABEL,
        (limit, 0.02),
        (3, 0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        color=style.LIMIT_GREY,
        fontsize=6.5,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )


def _name_rows(panels: Sequence[Axes], systems: Sequence[str]) -> None:
    """Name the systems, ours in bold on a band through the whole row of panels."""
    axes = panels[0]
    heights = range(len(systems) - 1, -1, -1)
    axes.set_yticks(list(heights), [_title(system) for system in systems])
    axes.set_ylim(-0.6, len(systems) - 0.4)
    for label, system in zip(axes.get_yticklabels(), systems, strict=True):
        label.set_fontweight("bold" if system == _OURS else "normal")
    if _OURS in systems:
        height = len(systems) - 1 - systems.index(_OURS)
        for panel in panels:
            panel.axhspan(height - 0.45, height + 0.45, color=_BAND, linewidth=0, zorder=0)


def _legend(reference: bool = False) -> list[Line2D]:
    entries = [
        ("spins, copied", "poll", COPY),
        ("spins, in place", "poll", LOAN),
        ("sleeps, copied", BLOCK, COPY),
        ("sleeps, in place", BLOCK, LOAN),
    ]
    lines = [Line2D([], [], linestyle="none", label=label, **_look("", mode, face)) for label, mode, face in entries]
    if reference:
        lines.append(Line2D([], [], color=_OURS_BLUE, linewidth=0.8, label="zcipc, spins, copied"))
        lines.append(Line2D([], [], color=style.LIMIT_GREY, linewidth=0.8, linestyle=":", label=style.LIMIT_LABEL))
    return lines
