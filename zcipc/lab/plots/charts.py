"""The figures that are measured: Figs. 5 to 7 and the machine itself, from tidy frames.

A line is the median over launches and its band the 95 % confidence interval of that median.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from zcipc.lab.harness.stats import summarise
from zcipc.lab.plots import style
from zcipc.lab.plots.style import LIMIT, RUNTIMES, TRANSPORTS, ThemedFigure

MESSAGE_SIZE = "message size"
TAIL = (0.5, 0.9, 0.99, 0.999)
"""The quantiles named on the axis of a tail."""


def ping_pong(frame: pd.DataFrame) -> ThemedFigure:
    """Fig. 5: round-trip time against message size, a panel for each runtime. `frame` is the table pingpong."""
    summary = summarise(frame, by=["runtime", "transport", "message_bytes"], value="round_trip_ns")
    with style.theme():
        figure, rows = _grid(1, _runtimes(summary), height=3.1)
        _by_size(rows[0], summary, _limit_of(summary))
        rows[0, 0].set_ylabel("round-trip time")
        _letter(rows)
        transport_legend(figure, summary)
    return figure


def latency(frame: pd.DataFrame, quantiles: pd.DataFrame, message_bytes: int | None = None) -> ThemedFigure:
    """Fig. 7: one-way latency against message size and, below, its tail at one size; a column a runtime.

    `frame` is the table latency (`p50_ns`), `quantiles` the table latency_quantiles. The tail is that of
    messages of `message_bytes`; None takes the middle of the sizes measured.
    """
    summary = summarise(frame, by=["runtime", "transport", "message_bytes"], value="p50_ns")
    size = _middle(quantiles["message_bytes"]) if message_bytes is None else message_bytes
    # The 100th percentile is the one slowest message, whose place on this axis is at infinity.
    tails = quantiles[(quantiles["message_bytes"] == size) & (quantiles["quantile"] < 1)]
    tail = summarise(tails, by=["runtime", "transport", "quantile"], value="latency_ns")
    with style.theme():
        figure, rows = _grid(2, _runtimes(summary), height=5.2)
        limit = _limit_of(summary)
        _by_size(rows[0], summary, limit)
        rows[0, 0].set_ylabel("median one-way latency")
        _by_quantile(rows[1], tail, limit[limit["message_bytes"] == size]["value"])
        for axes, runtime in zip(rows[1], _runtimes(summary), strict=True):
            axes.set_title(f"{RUNTIMES[runtime]}, {style.format_bytes(size)}")
        rows[1, 0].set_ylabel("one-way latency")
        _letter(rows)
        transport_legend(figure, summary)
    return figure


def injection(frame: pd.DataFrame) -> ThemedFigure:
    """Fig. 6: messages per second against the interval between injections, a line for each volume.

    `frame` is the table injection. A row is a transport, a column a message size and a runtime; panels of one
    size share their y axis. Warm-up bursts are left out.
    """
    keys = ["transport", "message_bytes", "runtime", "volume_messages", "interval_s"]
    summary = summarise(frame[~frame["warmup"]], by=keys, value="messages_per_s")
    limit = summary[summary["transport"] == LIMIT]
    drawn = summary[summary["transport"] != LIMIT]
    transports, runtimes = transports_of(drawn), _runtimes(drawn)
    columns = [(size, runtime) for size in _sizes(drawn) for runtime in runtimes]
    volumes = sorted(drawn["volume_messages"].unique())
    levels = dict(zip(volumes, style.sequence(len(volumes)), strict=True))
    with style.theme():
        figure = ThemedFigure(
            figsize=(style.DOUBLE_COLUMN, 0.75 + 1.12 * len(transports)),
            layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02),
        )
        panels = figure.subplots(len(transports), len(columns), sharex=True, squeeze=False)
        for column, (size, runtime) in enumerate(columns):
            sized, bound = (rows[rows["message_bytes"] == size] for rows in (drawn, limit))
            view = _with_room_for_the_limit(view_of(sized, bound), bound)
            for axes, transport in zip(panels[:, column], transports, strict=True):
                cell = sized[(sized["transport"] == transport) & (sized["runtime"] == runtime)]
                for volume, line in cell.groupby("volume_messages"):
                    median_and_band(axes, line, "interval_s", levels[volume].line)
                _injection_limit(axes, bound)
                axes.set_yscale("log")
                axes.set_ylim(view)
                style.rate_axis(axes.yaxis)
                axes.tick_params(labelleft=runtime == runtimes[0])
            panels[0, column].set_title(f"{style.format_bytes(size)}, {RUNTIMES[runtime]}", fontsize=7)
            _interval_axis(panels[-1, column], sorted(drawn["interval_s"].unique()))
        for axes, transport in zip(panels[:, -1], transports, strict=True):
            axes.set_ylabel(style.look(transport).label.replace(" (", "\n("), fontweight="bold")
            axes.yaxis.set_label_position("right")
        figure.supxlabel("interval between injections (s)", fontsize=7)
        figure.supylabel("messages per second", fontsize=7)
        figure.legend(
            handles=[Line2D([], [], **{**levels[volume].line, "label": f"{volume:,}"}) for volume in volumes],
            title="messages per injection",
            title_fontsize=6.5,
            loc="outside upper center",
            ncols=len(volumes),
        )
    return figure


def machine_timer(limits: pd.DataFrame, machine: pd.DataFrame) -> ThemedFigure:
    """Two limits of this machine: how fast a cache line crosses between cores, and how fast memory is copied.

    `limits` is the table limits; `machine` has the row timer_cost_ns, drawn for scale beside the exchange.
    """
    exchange = limits[limits["limit"] == "cache_line_round_trip"]
    copies = limits[limits["limit"] == "memcpy"]
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN, 2.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        _exchange(left, exchange, machine)
        _copy_bandwidth(right, copies)
        _letter(np.array([[left, right]]))
    return figure


def _exchange(axes: Axes, exchange: pd.DataFrame, machine: pd.DataFrame) -> None:
    per_launch = exchange.groupby("launch")["value"].median()
    median = summarise(exchange, by=["limit"], value="value").iloc[0]
    timer = float(machine.loc[machine["name"] == "timer_cost_ns", "value"].iloc[0])
    color = TRANSPORTS["zcipc"].color
    title = f"cache line: median {style.format_time(median['value'])}"
    if np.isfinite(median["low"]):
        axes.axvspan(median["low"], median["high"], color=color, alpha=0.15, linewidth=0)
        title += f", 95 % CI {median['low']:.3g}\N{EN DASH}{median['high']:.3g} ns"
    seaborn.ecdfplot(x=per_launch, ax=axes, color=color)
    shares = np.arange(1, len(per_launch) + 1) / len(per_launch)
    axes.plot(np.sort(per_launch), shares, marker="o", linestyle="none", color=color)
    axes.axvline(timer, color=style.LIMIT_GREY, linewidth=0.8)
    axes.annotate(
        f"reading the clock: {style.format_time(timer)}",
        (timer, 1),
        (3, 0),
        textcoords="offset points",
        va="top",
        color=style.LIMIT_GREY,
        fontsize=6.5,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
    axes.set_xlim(0, 1.15 * max(per_launch.max(), timer))
    axes.set_ylim(0, 1.06)
    axes.set_xlabel("round trip (ns)")
    axes.set_ylabel("share of launches")
    axes.set_title(title)


def _copy_bandwidth(axes: Axes, copies: pd.DataFrame) -> None:
    summary = summarise(copies, by=["message_bytes"], value="value")
    for column in ("value", "low", "high"):
        summary[column] /= 1e9
    median_and_band(axes, summary, "message_bytes", {**TRANSPORTS["zcipc"].line, "label": None})
    style.size_axis(axes, _sizes(summary))
    axes.set_ylim(0, 1.15 * summary["value"].max())
    axes.set_xlabel(MESSAGE_SIZE)
    axes.set_ylabel("bandwidth (GB/s)")
    axes.set_title("memcpy within one core")


def _grid(rows: int, runtimes: Sequence[str], height: float) -> tuple[ThemedFigure, Any]:
    width = style.DOUBLE_COLUMN if len(runtimes) > 1 else style.SINGLE_COLUMN
    figure = ThemedFigure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, len(runtimes), sharey="row", squeeze=False)
    for axes, runtime in zip(panels[0], runtimes, strict=True):
        axes.set_title(RUNTIMES[runtime])
    return figure, panels


def _by_size(panels: Iterable[Axes], summary: pd.DataFrame, limit: pd.DataFrame) -> None:
    """Fill a row of panels, one for each runtime, with `value` (ns) against the message size."""
    drawn = summary[summary["transport"] != LIMIT]
    for axes, runtime in zip(panels, _runtimes(summary), strict=True):
        _transport_lines(axes, drawn[drawn["runtime"] == runtime], "message_bytes")
        limit_line(axes, limit)
        style.size_axis(axes, _sizes(drawn))
        axes.set_yscale("log")
        axes.set_ylim(view_of(drawn, limit))
        style.time_axis(axes.yaxis)
        axes.set_xlabel(MESSAGE_SIZE)


def _by_quantile(panels: Iterable[Axes], tail: pd.DataFrame, limit: pd.Series) -> None:
    """Fill a row of panels, one for each runtime, with `value` (ns) against the quantile, its end stretched.

    `limit` holds one value in ns, or none: nothing can be faster.
    """
    drawn = tail[tail["transport"] != LIMIT].assign(rarity=lambda rows: 1 / (1 - rows["quantile"]))
    named = [1 / (1 - quantile) for quantile in TAIL]
    for axes, runtime in zip(panels, _runtimes(tail), strict=True):
        _transport_lines(axes, drawn[drawn["runtime"] == runtime], "rarity", named)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(named))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rarity, _: f"{100 * (1 - 1 / rarity):.4g} %"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_yscale("log")
        axes.set_ylim(view_of(drawn, limit.to_frame()))
        style.time_axis(axes.yaxis)
        for value in limit:
            axes.axhline(value, color=style.LIMIT_GREY, linewidth=0.8, gid=LIMIT)
            _name_limit(axes, 1, value, below=True)
        axes.set_xlabel("share of messages at least this fast")


def _transport_lines(axes: Axes, rows: pd.DataFrame, x: str, marked: Sequence[float] | None = None) -> None:
    """Draw each transport against `x`, with a marker at every point or at those nearest to `marked`."""
    for transport in transports_of(rows):
        line = rows[rows["transport"] == transport].sort_values(x)
        options = dict(style.look(transport).line)
        if marked is not None:
            options["markevery"] = sorted({int((line[x] - place).abs().argmin()) for place in marked})
        median_and_band(axes, line, x, options)


def median_and_band(axes: Axes, rows: pd.DataFrame, x: str, options: Mapping[str, Any]) -> None:
    axes.fill_between(rows[x], rows["low"], rows["high"], color=options["color"], alpha=0.2, linewidth=0)
    axes.plot(rows[x], rows["value"], **options)


def _limit_of(summary: pd.DataFrame) -> pd.DataFrame:
    """The limit of a summary, whatever the runtime it was measured in: it bounds them all."""
    return summary[summary["transport"] == LIMIT].sort_values("message_bytes")


def limit_line(axes: Axes, limit: pd.DataFrame) -> None:
    if limit.empty:
        return
    axes.plot(limit["message_bytes"], limit["value"], color=style.LIMIT_GREY, linewidth=0.8, gid=LIMIT)
    _name_limit(axes, limit["message_bytes"].iloc[0], limit["value"].iloc[0], below=True)


def _injection_limit(axes: Axes, limit: pd.DataFrame) -> None:
    if limit.empty:
        return
    rate = limit["value"].median()
    axes.axhline(rate, color=style.LIMIT_GREY, linewidth=0.8, gid=LIMIT)
    _name_limit(axes, limit["interval_s"].min(), rate, below=False)


def _with_room_for_the_limit(view: tuple[float, float], limit: pd.DataFrame) -> tuple[float, float]:
    """The view, enlarged so that the limit's name has a sixth of a panel above its line."""
    bottom, top = view
    rate = limit["value"].median() if not limit.empty else bottom
    return bottom, max(top, rate * (rate / bottom) ** (1 / 5))


def _name_limit(axes: Axes, x: float, y: float, below: bool) -> None:
    axes.annotate(
        style.LIMIT_LABEL,
        (x, y),
        (0, -2.5 if below else 2.5),
        textcoords="offset points",
        va="top" if below else "bottom",
        color=style.LIMIT_GREY,
        fontsize=6.5,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )


def _interval_axis(axes: Axes, intervals: Sequence[float]) -> None:
    whole = [interval for interval in intervals if float(interval).is_integer()]
    axes.xaxis.set_major_locator(FixedLocator(whole if len(whole) > 2 else intervals))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def view_of(*summaries: pd.DataFrame) -> tuple[float, float]:
    """Limits of a logarithmic axis around every median. A band may leave it: with few launches it is wide."""
    values = pd.concat([summary["value"] for summary in summaries if not summary.empty])
    return float(values.min()) / 1.8, float(values.max()) * 1.8


def _letter(panels: Any) -> None:
    """Put (a), (b), ... before the titles of two or more panels, row by row."""
    if panels.size > 1:
        for letter, axes in zip("abcdefgh", panels.flat, strict=False):
            axes.set_title(f"({letter})  {axes.get_title(loc='left')}".rstrip())


def transport_legend(figure: ThemedFigure, summary: pd.DataFrame) -> None:
    handles = [Line2D([], [], **style.look(transport).line) for transport in transports_of(summary)]
    columns = 3 if figure.get_figwidth() > style.SINGLE_COLUMN else 2
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=2.0)


def transports_of(frame: pd.DataFrame) -> list[str]:
    """The transports of `frame` that are series, in legend order; ValueError for one without a look."""
    present = set(frame["transport"].unique()) - {LIMIT}
    for transport in present:
        style.look(transport)
    return [transport for transport in TRANSPORTS if transport in present]


def _runtimes(frame: pd.DataFrame) -> list[str]:
    present = set(frame["runtime"].unique())
    return [runtime for runtime in RUNTIMES if runtime in present]


def _sizes(frame: pd.DataFrame) -> list[int]:
    return sorted(int(size) for size in frame["message_bytes"].unique())


def _middle(sizes: pd.Series) -> int:
    known = sorted(sizes.unique())
    return int(known[len(known) // 2])
