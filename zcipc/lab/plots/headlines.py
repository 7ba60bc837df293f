"""Fig. 11: the headlines of the related work beside what comes closest here."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from zcipc.lab.plots import style
from zcipc.lab.plots.style import TRANSPORTS, ThemedFigure

_OURS = TRANSPORTS["zcipc"]
_STROKE: dict[str, Any] = {"markeredgecolor": "#d55e00", "markersize": 11, "markeredgewidth": 1.8}  # what was reported
_SERIES = {
    "zcipc": "zcipc",
    "zcipc_block": "zcipc (blocking)",
    "zcipc_touch": "zcipc (loaned, touched)",
    "pipe": "pipe",
    "socketpair": "Unix sockets",
    "pickle": "pickle",
}
_UNITS = {"bit/s": 1e9, "ns": 1e3}
_UNIT_NAMES = {"bit/s": "Gbit/s", "ns": "µs"}


def headlines(rows: pd.DataFrame) -> ThemedFigure:
    """`rows` are those of `zcipc.lab.measurements.headlines.beside`: a panel for each unit, a line for each headline."""
    units = list(dict.fromkeys(rows["unit"]))
    groups = [rows[rows["unit"] == unit] for unit in units]
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN, 0.6 + 0.31 * len(rows) + 0.22 * len(units)), layout="constrained")
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[len(group) + 0.6 for group in groups])[:, 0]
        for axes, unit, group in zip(panels, units, groups, strict=True):
            scale = _UNITS.get(unit, 1.0)
            for place, row in enumerate(group.itertuples()):
                reported = np.array(row.reported) / scale
                axes.plot(reported, [place] * len(reported), "|", **_STROKE)
                axes.plot([row.low / scale, row.high / scale], [place] * 2, color=_OURS.color, linewidth=2, alpha=0.5)
                axes.plot([row.value / scale], [place], **(_OURS.line | {"linestyle": "none"}), clip_on=False)
            axes.set_yticks(range(len(group)), [_label(row) for row in group.itertuples()])
            axes.tick_params(axis="y", labelsize=6)
            axes.set_ylim(len(group) - 0.5, -0.5)
            axes.set_xlabel(_UNIT_NAMES.get(unit, unit))
            if unit in ("times better", "bit/s"):
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if unit == "times better" else (1.0, 2.0, 5.0)))
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_locator(NullLocator())
            else:
                axes.set_xlim(0, 1.08 * max([*group["high"], *itertools.chain(*group["reported"])]) / scale)
        panels[0].axvline(1, color=style.LIMIT_GREY, linewidth=0.8)
        handles = [
            Line2D([], [], **(_OURS.line | {"label": "here: median and 95 % interval"})),
            Line2D([], [], marker="|", linestyle="none", label="as reported", **_STROKE),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _label(row: Any) -> str:
    against = f" against {_SERIES[row.better_than]}" if row.better_than else ""
    return f"{row.system}: {row.what}\n{_SERIES[row.series]}{against}"
