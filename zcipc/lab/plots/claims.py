"""The verdicts on all claims at a glance: a cell for each claim in each combination it was judged in."""

from collections import Counter
from collections.abc import Mapping
from itertools import groupby

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from zcipc.lab.plots import style
from zcipc.lab.plots.style import INK, ThemedFigure

VERDICTS: Mapping[str, tuple[str, str]] = {
    "reproduced": ("✓", "#a8dcc9"),
    "undecided": ("?", "#f4f1e4"),
    "not reproduced": ("✗", "#e7a08c"),
}
"""Mark and colour of each verdict; the mark alone tells them apart in grey."""

_ROW = 0.2
"""Height of a row in inches. Everything else is measured in cells, of which a row is one high."""
_LEFT = -4.3
_TITLES = -3.83
_SHORT = {"pipe": "pipe", "socketpair": "socket\npair", "paper": "paper's design", "zcipc": "zcipc"}
_MINUS, _TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def verdicts(frame: pd.DataFrame, titles: Mapping[str, str]) -> ThemedFigure:
    """A matrix of verdicts with the effects they hang on.

    `frame` is the table claims, `titles` a few words for each claim. A row is a claim under a condition, a
    column a runtime, a library and a baseline; neighbouring cells with the same finding are joined into one.
    An effect with a multiplication sign is a ratio, with a unit a difference of times, bare an exponent.
    """
    rows = list(dict.fromkeys(zip(frame["claim"], frame["condition"], strict=True)))
    columns = list(dict.fromkeys(zip(frame["runtime"], frame["library"], frame["baseline"], strict=True)))
    cells = frame.set_index(["claim", "condition", "runtime", "library", "baseline"])
    with style.theme():
        figure = ThemedFigure(figsize=(style.DOUBLE_COLUMN, 0.95 + _ROW * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_xlim(_LEFT, len(columns))
        axes.set_ylim(len(rows), -2.4)
        _heading(axes, columns)
        for y, (claim, condition) in enumerate(rows):
            _label(axes, y, claim if y == 0 or rows[y - 1][0] != claim else "", titles[claim], condition)
            found = [cells.loc[(claim, condition, *column)] for column in columns]
            x = 0
            for _, same in groupby(found, lambda cell: (cell.name[2], cell["statement"])):
                width = len(list(same))
                _cell(axes, x, y, width, found[x])
                x += width
        handles = [
            Patch(facecolor=color, edgecolor=INK, linewidth=0.4, label=f"{mark} {name}")
            for name, (mark, color) in VERDICTS.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _heading(axes: Axes, columns: list[tuple[str, str, str]]) -> None:
    for level, height in ((1, -2.1), (2, -1.45)):
        x = 0
        for key, width in Counter(column[:level] for column in columns).items():
            name = style.RUNTIMES[key[0]] if level == 1 else _SHORT[key[1]]
            weight = "bold" if level == 1 else "normal"
            axes.text(x + width / 2, height, name, ha="center", va="center", weight=weight, fontsize=6.5)
            axes.plot([x + 0.06, x + width - 0.06], [height + 0.32] * 2, color=INK, linewidth=0.5)
            x += width
    for x, (_, _, baseline) in enumerate(columns):
        axes.text(x + 0.5, -0.55, _SHORT[baseline], ha="center", va="center", fontsize=6, linespacing=0.95)


def _label(axes: Axes, y: float, claim: str, title: str, condition: str) -> None:
    if claim:
        axes.plot([_LEFT, 0], [y, y], color=style.GRID_GREY, linewidth=0.5)
        axes.text(_LEFT, y + 0.5, claim, ha="left", va="center", weight="bold", fontsize=6.5)
        axes.text(_TITLES, y + 0.5, title, ha="left", va="center", fontsize=6.5)
    axes.text(-0.08, y + 0.5, condition, ha="right", va="center", fontsize=6, style="italic")


def _cell(axes: Axes, x: float, y: float, width: int, found: pd.Series) -> None:
    mark, color = VERDICTS[found["verdict"]]
    axes.add_patch(Rectangle((x + 0.03, y + 0.06), width - 0.06, 0.88, facecolor=color, edgecolor=INK, linewidth=0.3))
    effect = _effect(found["effect"], found["effect_unit"])
    axes.text(x + width / 2, y + 0.5, f"{mark} {effect}".strip(), ha="center", va="center", fontsize=6)


def _effect(value: float, unit: str) -> str:
    """A cell has room for the sign and two or three digits; the table holds the rest."""
    if pd.isna(value):
        return ""
    sign = _MINUS if value < 0 else "+"
    if unit == "ns":
        return sign + style.format_time(abs(value))
    if unit == "slope":
        return f"{sign}{abs(value):.2f}"
    if unit == "share":
        return f"{value:.0%}"
    return (f"{value:.0f}" if value >= 9.95 else f"{value:#.2g}") + _TIMES
