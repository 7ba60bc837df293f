"""Application, file server and driver: how fast files pass through them, and how long a dead driver is missed."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from zcipc.lab.harness.stats import summarise
from zcipc.lab.plots import style
from zcipc.lab.plots.style import LIMIT, ThemedFigure

_NS_PER_MS = 1e6
_OPERATIONS = {"read": "reading files", "write": "writing files"}


def microkernel(frame: pd.DataFrame) -> ThemedFigure:
    """Fig. 10: bytes per second against file size, and the time from the kill of a driver. `frame` is the table microkernel."""
    summary = summarise(frame, by=["operation", "transport", "file_bytes"], value="value")
    names = [name for name in style.TRANSPORTS if name in set(frame["transport"])]
    with style.theme():
        figure = ThemedFigure(
            figsize=(style.DOUBLE_COLUMN, 2.7), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.03)
        )
        panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.75))
        rates = summary[summary["operation"].isin(list(_OPERATIONS))]
        for axes, (letter, (operation, title)) in zip(panels, zip("ab", _OPERATIONS.items(), strict=True), strict=False):
            _rates(axes, rates[rates["operation"] == operation], names)
            axes.set_ylim(rates["low"].fillna(rates["value"]).min() / 1.6, rates["high"].fillna(rates["value"]).max() * 1.6)
            style.rate_axis(axes.yaxis)
            axes.set_title(f"({letter})  {title}")
        panels[0].set_ylabel("bytes per second")
        _recovery(panels[2], frame, names)
        panels[2].set_title("(c)  a driver is killed")
        handles = [Line2D([], [], **style.look(name).line) for name in names]
        handles.append(Line2D([], [], color=style.LIMIT_GREY, linewidth=0.8, label="the limit: one process alone"))
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=2.0)
    return figure


def _rates(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    for name in (LIMIT, *names):
        line = rows[rows["transport"] == name].sort_values("file_bytes")
        options = {"color": style.LIMIT_GREY, "linewidth": 0.8, "gid": LIMIT} if name == LIMIT else style.look(name).line
        axes.fill_between(line["file_bytes"], line["low"], line["high"], color=options["color"], alpha=0.2, linewidth=0)
        axes.plot(line["file_bytes"], line["value"], **options)
    axes.set_yscale("log")
    style.size_axis(axes, sorted(rows["file_bytes"].unique()))
    axes.tick_params(axis="x", rotation=45)
    axes.set_xlabel("file size")


def _recovery(axes: Axes, frame: pd.DataFrame, names: list[str]) -> None:
    """Every kill as two points: when the application knew, hollow, and when it had the file, filled."""
    spread = np.random.default_rng(0)
    for place, name in enumerate(names):
        look = style.look(name)
        rows = frame[frame["transport"] == name]
        offsets = None
        for operation, face in (("noticed", "white"), ("recovered", look.color)):
            times = rows[rows["operation"] == operation]["value"].to_numpy() / _NS_PER_MS
            offsets = spread.uniform(-0.2, 0.2, len(times)) if offsets is None else offsets
            axes.scatter(
                place + offsets, times, color=face, edgecolor=look.color, linewidth=0.7, marker=look.marker, s=14
            )  # fmt: skip
            axes.plot([place - 0.32, place + 0.32], [np.median(times)] * 2, color=style.INK, linewidth=1.0)
    axes.set_xticks(range(len(names)), [style.look(name).label.split(" (")[0].replace("Unix ", "") for name in names])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, None)
    axes.set_ylabel("ms since the kill")
    axes.set_xlabel("hollow: noticed; filled: file read")
