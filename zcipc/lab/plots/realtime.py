"""Fig. 12: how late the messages of a periodic task are, beside each load, and how many miss the next beat."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from zcipc.lab.plots import style
from zcipc.lab.plots.style import SPINNING, TRANSPORTS, Look, ThemedFigure

LOOKS: dict[str, Look] = {name: TRANSPORTS[name] for name in ("pipe", "zcipc_block", "zcipc")} | {"zcipc_spin": SPINNING}
LOADS = {"idle": "no load", "cpu": "processors busy", "memory": "memory busy", "io": "files written"}
_TAIL = ("delivery_p9999_ns", "delivery_p999_ns", "delivery_p99_ns", "delivery_p90_ns")  # the farthest first
_NS_PER_S = 1e9
_LEAST_SHARE = 1e-4  # of beats missed: below, the axis is linear, so that none is a place on it


def realtime(frame: pd.DataFrame) -> ThemedFigure:
    """`frame` is the table realtime: a column for each load, above how late messages are, below the share of deadlines missed.

    A bar reaches from the median to the highest quantile that every launch can tell, both medians over launches; the line above
    it to the slowest message of all. Each launch's quantile is a dot.
    """
    loads = [load for load in LOADS if load in set(frame["load"])]
    cases = _cases(frame)
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN, 4.2), layout="constrained")
        panels = figure.subplots(2, len(loads), sharex=True, sharey="row", squeeze=False, height_ratios=(2.2, 1))
        for column, load in enumerate(loads):
            upper, lower = panels[:, column]
            upper.set_title(LOADS[load])
            for place, (scheduler, rate) in enumerate(cases):
                here = frame[(frame["load"] == load) & (frame["scheduler"] == scheduler) & (frame["rate_hz"] == rate)]
                upper.plot([place - 0.45, place + 0.45], [_NS_PER_S / rate] * 2, color=style.LIMIT_GREY, linewidth=0.8)
                for offset, name in zip(np.linspace(-0.3, 0.3, len(LOOKS)), LOOKS, strict=True):
                    _one(upper, lower, place + offset, here[here["transport"] == name], LOOKS[name])
            lower.set_xticks(range(len(cases)), [_case_label(*case) for case in cases])
            lower.tick_params(axis="x", labelsize=5.5)
        first, second = panels[:, 0]
        first.set_yscale("log")
        style.time_axis(first.yaxis)
        first.set_ylabel("from the beat until read")
        first.annotate(
            "the next beat", (-0.45, _NS_PER_S / cases[0][1]), (0, 2), textcoords="offset points",
            color=style.LIMIT_GREY, fontsize=6,
        )  # fmt: skip
        second.set_yscale("symlog", linthresh=_LEAST_SHARE)
        second.set_ylim(-_LEAST_SHARE / 4, 1.5)
        second.set_yticks([0, 1e-3, 1e-2, 1e-1, 1], ["0", "0.1 %", "1 %", "10 %", "100 %"])
        second.set_ylabel("deadlines missed")
        handles = [Line2D([], [], **(look.line | {"linestyle": "-", "linewidth": 3})) for look in LOOKS.values()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=2.0)
    return figure


def _cases(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """Scheduler and rate of each place on the axis: the ordinary one first."""
    known = {(str(scheduler), int(rate)) for scheduler, rate in zip(frame["scheduler"], frame["rate_hz"], strict=True)}
    return sorted(known, key=lambda case: (case[0] == "fifo", case[1]))


def _case_label(scheduler: str, rate: int) -> str:
    frequency = f"{rate // 1000} kHz" if rate >= 1000 else f"{rate} Hz"
    return f"{frequency}\nFIFO" if scheduler == "fifo" else frequency


def _one(upper: Axes, lower: Axes, place: float, rows: pd.DataFrame, look: Look) -> None:
    if rows.empty:
        return
    shown = next(column for column in _TAIL if rows[column].notna().all())
    middle, high = rows["delivery_p50_ns"].median(), rows[shown].median()
    upper.plot([place, place], [middle, rows["delivery_max_ns"].max()], color=look.color, linewidth=0.7)
    upper.plot([place, place], [middle, high], color=look.color, linewidth=3, solid_capstyle="butt")
    upper.plot([place], [middle], color=look.color, marker=look.marker, linestyle="none")
    upper.plot(
        [place] * len(rows), rows[shown], color=style.INK, marker=".", markersize=2.5, linestyle="none", markeredgewidth=0
    )
    share = rows["missed"] / rows["messages"]
    lower.plot([place, place], [share.min(), share.max()], color=look.color, linewidth=1)
    lower.plot([place], [share.median()], color=look.color, marker=look.marker, linestyle="none")
