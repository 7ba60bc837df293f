"""One question to a run, one figure: a statistic over message sizes, against the limit, by launch, or as a distribution."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from zcipc.lab.harness.stats import summarise
from zcipc.lab.plots import style
from zcipc.lab.plots.charts import MESSAGE_SIZE, limit_line, median_and_band, transport_legend, transports_of, view_of
from zcipc.lab.plots.style import LIMIT, RUNTIMES, ThemedFigure

_JITTER = 0.12  # of the room between two series


def over_sizes(rows: pd.DataFrame, column: str, title: str) -> ThemedFigure:
    """A time in ns against the message size; a line is the median over launches, its band the interval of that."""
    summary = summarise(rows, by=["transport", "message_bytes"], value=column)
    figure, axes = _figure(title)
    with style.theme():
        limit = summary[summary["transport"] == LIMIT]
        drawn = summary[summary["transport"] != LIMIT]
        _lines(axes, drawn)
        limit_line(axes, limit)
        axes.set_yscale("log")
        axes.set_ylim(view_of(drawn, limit))
        style.time_axis(axes.yaxis)
        transport_legend(figure, summary)
    return figure


def against_limit(rows: pd.DataFrame, column: str, title: str) -> ThemedFigure:
    """How many times the limit, launch by launch number: both were measured in the same minutes."""
    limit = rows[rows["transport"] == LIMIT].groupby(["message_bytes", "launch"])[column].median().rename("limit")
    joined = rows[rows["transport"] != LIMIT].join(limit, on=["message_bytes", "launch"])
    summary = summarise(joined.assign(ratio=joined[column] / joined["limit"]), ["transport", "message_bytes"], "ratio")
    figure, axes = _figure(title)
    with style.theme():
        _lines(axes, summary)
        axes.axhline(1, color=style.LIMIT_GREY, linewidth=0.8, gid=LIMIT)
        axes.set_yscale("log")
        axes.set_ylabel("times the limit")
        transport_legend(figure, summary)
    return figure


def by_launch(rows: pd.DataFrame, column: str, title: str) -> ThemedFigure:
    """Every launch a point: what one repetition of the experiment would have told. `rows` are of one size."""
    figure, axes = _figure(title)
    random = np.random.default_rng(0)
    with style.theme():
        transports = transports_of(rows)
        for place, transport in enumerate(transports):
            values = rows[rows["transport"] == transport].groupby("launch")[column].median()
            options = style.look(transport).line | {"linestyle": "none", "alpha": 0.8}
            axes.plot(place + random.uniform(-_JITTER, _JITTER, len(values)), values, **options)
            axes.plot([place - 0.3, place + 0.3], [values.median()] * 2, color=options["color"])
        for value in [rows[rows["transport"] == LIMIT][column].median()]:
            axes.axhline(value, color=style.LIMIT_GREY, linewidth=0.8, gid=LIMIT)
        axes.set_xticks(range(len(transports)), ["" for _ in transports])
        axes.set_xlabel("a point for each launch, a bar for their median")
        axes.set_yscale("log")
        style.time_axis(axes.yaxis)
        transport_legend(figure, rows)
    return figure


def distribution(quantiles: pd.DataFrame, column: str, title: str) -> ThemedFigure:
    """The share of messages that took no longer; a line is the median over launches. `quantiles` are of one size."""
    summary = summarise(quantiles, by=["transport", "quantile"], value=column)
    figure, axes = _figure(title)
    with style.theme():
        for transport in transports_of(summary):
            line = summary[summary["transport"] == transport]
            options = dict(style.look(transport).line) | {"markevery": 0.25}
            axes.fill_betweenx(line["quantile"], line["low"], line["high"], color=options["color"], alpha=0.2, linewidth=0)
            axes.plot(line["value"], line["quantile"], **options)
        limit = summary[summary["transport"] == LIMIT]
        axes.plot(limit["value"], limit["quantile"], color=style.LIMIT_GREY, linewidth=0.8, gid=LIMIT)
        axes.set_xscale("log")
        style.time_axis(axes.xaxis)
        axes.set_ylabel("share of messages")
        transport_legend(figure, summary)
    return figure


VIEWS: Mapping[str, Callable[[pd.DataFrame, str, str], ThemedFigure]] = {
    "over sizes": over_sizes,
    "times the limit": against_limit,
    "launch by launch": by_launch,
    "distribution": distribution,
}


def _figure(title: str) -> tuple[ThemedFigure, Axes]:
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN * 0.8, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
    return figure, axes


def _lines(axes: Axes, summary: pd.DataFrame) -> None:
    for transport in transports_of(summary):
        line = summary[summary["transport"] == transport].sort_values("message_bytes")
        median_and_band(axes, line, "message_bytes", style.look(transport).line)
    style.size_axis(axes, sorted(int(size) for size in summary["message_bytes"].unique()))
    axes.set_xlabel(MESSAGE_SIZE)


def title_of(experiment: str, runtime: str, statistic: str, sizes: Sequence[int]) -> str:
    """What a figure shows, in one line."""
    size = f", {style.format_bytes(sizes[0])}" if len(sizes) == 1 else ""
    return f"{experiment}: {statistic}, {RUNTIMES[runtime]}{size}"
