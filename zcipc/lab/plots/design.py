"""What each design choice buys, as a forest plot: a row for each alternative and metric, its time over that of what is shipped.

The axis shows a narrow range, because most choices buy little by themselves; what lies outside is an arrow with a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from zcipc.lab.plots import style
from zcipc.lab.plots.style import INK, LIMIT_GREY, ThemedFigure


@dataclass(frozen=True)
class Metric:
    """What a row of this metric is called, its marker and colour, and whether its time is read as a rate."""

    label: str
    marker: str
    color: str
    rate: bool = False


METRICS: Mapping[str, Metric] = {
    "round_trip": Metric("round trip", "o", "#0069a8"),
    "stream": Metric("stream", "^", "#009e73", rate=True),
    "interpreted_round_trip": Metric("interpreted round trip", "s", "#7a2a6b"),
    "call": Metric("interpreted call", "D", "#d55e00"),
    "first_lap": Metric("first lap", "v", "#e8a317"),
}

_ROW = 0.132
"""Height of a row in inches. Heights inside the panel are measured in rows."""
_VIEW = (1 / 8, 8.0)
"""Ratios shown."""
_HEADING, _VARIANT, _METRIC, _RATIO, _VALUES = -0.66, -0.64, -0.03, 1.03, 1.19
"""Where the texts beside the panel begin or, for the metric, end, in widths of the panel."""


def design_choices(effects: pd.DataFrame) -> ThemedFigure:
    """A panel for all choices. `effects` is what `zcipc.lab.measurements.effects.effects` makes of the table design_choices.

    A filled marker is a difference, its interval leaves out 1; a hollow one may be none.
    """
    choices = list(dict.fromkeys(effects["choice"]))
    rows = len(effects) + len(choices)
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN, 0.75 + _ROW * rows))
        height = figure.get_figheight()
        axes = figure.add_axes((0.275, 0.42 / height, 0.41, _ROW * rows / height))
        axes.set_xscale("log")
        axes.set_xlim(_VIEW)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.axvline(1, color=INK, linewidth=0.8)
        y = 0
        for choice in choices:
            group = effects[effects["choice"] == choice]
            _heading(axes, y, choice, group["shipped"].iloc[0])
            previous = ""
            for y, (_, row) in enumerate(group.iterrows(), start=y + 1):  # noqa: B020
                _row(axes, y, row, row["variant"] if row["variant"] != previous else "")
                previous = row["variant"]
            y += 1
        _ratio_axis(axes)
        _legend(figure, effects)
    return figure


def _heading(axes: Axes, y: float, choice: str, shipped: str) -> None:
    axes.axhspan(y - 0.5, y + 0.5, color="#f3f3f3", linewidth=0, zorder=0)
    across = axes.get_yaxis_transform()
    heading = axes.text(_HEADING, y, choice, transform=across, ha="left", va="center_baseline", weight="bold", fontsize=6.5)
    axes.annotate(
        f"shipped: {shipped}", (1, y), (4, 0), xycoords=(heading, "data"), textcoords="offset points",
        va="center_baseline", fontsize=6, style="italic",
    )  # fmt: skip


def _row(axes: Axes, y: float, row: pd.Series, variant: str) -> None:
    metric = METRICS[row["metric"]]
    across = axes.get_yaxis_transform()
    axes.text(_VARIANT, y, variant, transform=across, ha="left", va="center", fontsize=6.2)
    name = f"{metric.label}, {style.format_bytes(row['message_bytes'])}"
    axes.text(_METRIC, y, name, transform=across, ha="right", va="center", fontsize=6)
    if np.isnan(row["ratio"]):
        axes.text(1, y, " not offered by this machine", ha="left", va="center", fontsize=6, style="italic", color=LIMIT_GREY)
        return
    decided = not row["low"] <= 1 <= row["high"]  # a single launch has no interval
    low, high = _VIEW
    if np.isfinite(row["low"]):
        axes.plot(np.clip([row["low"], row["high"]], low, high), [y, y], color=metric.color, linewidth=1.0)
    axes.plot(
        np.clip(row["ratio"], low, high),
        y,
        marker="<" if row["ratio"] < low else ">" if row["ratio"] > high else metric.marker,
        color=metric.color,
        markerfacecolor=metric.color if decided else "white",
        markeredgecolor=metric.color,
        clip_on=False,
    )
    digits = 3 if row["ratio"] < 0.1 else 2 if row["ratio"] < 10 else 0
    ratio = f"{row['ratio']:.{digits}f}"
    values = f"{_format(metric, row['shipped_value'])} → {_format(metric, row['value'])}"
    axes.text(_RATIO, y, ratio, transform=across, ha="left", va="center", fontsize=6)
    axes.text(_VALUES, y, values, transform=across, ha="left", va="center", fontsize=6)


def _format(metric: Metric, nanoseconds: float) -> str:
    return f"{style.format_rate(1e9 / nanoseconds)}/s" if metric.rate else style.format_time(nanoseconds)


def _ratio_axis(axes: Axes) -> None:
    axes.set_xlabel("time of the alternative, in times of what is shipped")
    ticks = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    for text, place, points, align in (
        ("faster than shipped", ("data", 1.0), -4, "right"),
        ("slower than shipped", ("data", 1.0), 4, "left"),
        ("ratio", ("axes fraction", _RATIO), 0, "left"),
        ("shipped → alternative", ("axes fraction", _VALUES), 0, "left"),
    ):
        axes.annotate(
            text, (place[1], 1), (points, 2), xycoords=(place[0], "axes fraction"), textcoords="offset points",
            ha=align, va="bottom", fontsize=6, color=LIMIT_GREY,
        )  # fmt: skip


def _legend(figure: ThemedFigure, effects: pd.DataFrame) -> None:
    present = set(effects["metric"])
    handles = [
        Line2D([], [], linestyle="none", marker=metric.marker, color=metric.color, label=metric.label)
        for name, metric in METRICS.items()
        if name in present
    ]
    handles.append(
        Line2D(
            [], [], linestyle="none", marker="o", markerfacecolor="white", markeredgecolor=INK, label="1 within the interval"
        )
    )
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), handlelength=1.2, columnspacing=1.4)
