"""One look for every figure: theme, sizes, each transport, how bytes, times and rates are written.

Colour groups the transports (warm: through the kernel; purple: the paper's design; cool: zcipc). Marker and
line style tell them apart again, so a figure printed in grey, or read by colour-blind eyes, loses nothing.
"""

import io
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib.style
import seaborn
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

SINGLE_COLUMN = 3.4
"""Width in inches of a figure one column wide."""
DOUBLE_COLUMN = 7.0
"""Width in inches of a figure across both columns."""

INK = "#262626"
LIMIT_GREY = "#4d4d4d"
GRID_GREY = "#e4e4e4"

_THEME: dict[str, Any] = {
    **seaborn.axes_style("ticks"),
    **seaborn.plotting_context("paper"),
    # Named, not "sans-serif": matplotlib ships this font, so every machine draws the same letters.
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID_GREY,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.8,
    "ytick.minor.size": 1.8,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "lines.markeredgewidth": 0.6,
    "lines.markeredgecolor": "white",
    "hatch.linewidth": 0.5,
    "figure.dpi": 144,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
}

_UNDATED: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def theme() -> AbstractContextManager[None]:
    """The theme, over matplotlib's own defaults: no setting of the reader's leaks into a figure."""
    # Ids in an SVG are random unless salted. Who saves may choose the salt, so that figures can share a page.
    salt = matplotlib.rcParams["svg.hashsalt"] or "zcipc"
    return matplotlib.style.context(["default", {**_THEME, "svg.hashsalt": salt}])


class ThemedFigure(Figure):
    """A figure drawn and saved under the theme, whenever and by whomever that is done.

    matplotlib creates ticks and chooses fonts when a figure is drawn, not when it is made, so a theme that
    ends with the function that made the figure would be lost in part. No pyplot state holds the figure.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draw under the theme."""
        with theme():
            super().draw(renderer)

    def savefig(self, fname: str | os.PathLike[str] | IO[Any], **options: Any) -> None:
        """Save as `Figure.savefig` does, under the theme and without a date unless `metadata` gives one."""
        name = fname if isinstance(fname, str | os.PathLike) else ""
        suffix = f".{options['format']}" if options.get("format") else Path(name).suffix
        if suffix.lower() in _UNDATED:
            options["metadata"] = {**_UNDATED[suffix.lower()], **(options.get("metadata") or {})}
        with theme():
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """How a notebook shows the figure; without this only one that pyplot made would be shown."""
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=self.dpi)
        return image.getvalue()


@dataclass(frozen=True)
class Look:
    """How one series is told from the others, in colour and without it."""

    label: str
    color: str
    marker: str
    dashes: tuple[float, ...]
    """On and off lengths, in line widths; empty for a solid line."""

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments for `Axes.plot`."""
        linestyle: Any = (0, self.dashes) if self.dashes else "-"
        return {"color": self.color, "marker": self.marker, "linestyle": linestyle, "label": self.label}


TRANSPORTS: Mapping[str, Look] = {
    "pipe": Look("pipe", "#d55e00", "o", (4.0, 1.5)),
    "socketpair": Look("Unix socket pair", "#e8a317", "s", (1.2, 1.2)),
    "paper": Look("paper's design (semaphores)", "#7a2a6b", "X", (5.0, 1.3, 1.2, 1.3)),
    "zcipc_block": Look("zcipc (blocking)", "#6bb8e8", "v", (8.0, 1.3, 1.2, 1.3, 1.2, 1.3)),
    "zcipc": Look("zcipc (copying)", "#0069a8", "^", ()),
    "zcipc_loan": Look("zcipc (loaned)", "#009e73", "D", (9.0, 1.6)),
}
"""Every transport that is a series of its own, in the order of legends and rows."""

SPINNING = Look("zcipc (spinning)", "#1d2f5c", "P", (1.2, 1.2, 4.0, 1.2))
"""A series of the real-time experiment alone."""

LIMIT = "limit"
LIMIT_LABEL = "the limit"

RUNTIMES: Mapping[str, str] = {"compiled": "compiled loop", "python": "interpreted loop"}
"""The runtimes in the order of panels, and their titles."""


def look(transport: str) -> Look:
    """The look of `transport`; ValueError if it was given none, for two series must never look alike."""
    try:
        return TRANSPORTS[transport]
    except KeyError:
        known = ", ".join(TRANSPORTS)
        raise ValueError(f"transport {transport!r} has no look in style.TRANSPORTS; known: {known}") from None


def sequence(count: int) -> list[Look]:
    """`count` unlabelled looks for ordered levels, light to dark, so that their order shows in grey too."""
    colors = seaborn.color_palette("blend:#8fc7b8,#2c7f94,#1d2f5c", count).as_hex()
    markers = "osD^vPX*"
    return [Look("", str(color), markers[level % len(markers)], ()) for level, color in enumerate(colors)]


def format_bytes(size: float) -> str:
    """64 -> '64 B', 1024 -> '1 KiB', 65000 -> '65 kB': the largest unit, binary or not, that divides it."""
    units = ((1 << 30, "GiB"), (10**9, "GB"), (1 << 20, "MiB"), (10**6, "MB"), (1 << 10, "KiB"), (1000, "kB"))
    for factor, unit in units:
        if size >= factor and size % factor == 0:
            return f"{size / factor:.0f} {unit}"
    return f"{size:,.0f} B"


def format_time(nanoseconds: float) -> str:
    """125 -> '125 ns', 11_300 -> '11.3 µs', 2e6 -> '2 ms': three significant digits."""
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if round(nanoseconds, 6) >= factor:
            return f"{nanoseconds / factor:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def format_rate(per_second: float) -> str:
    """20_000 -> '20 k', 1_500_000 -> '1.5 M': a count per second, three significant digits."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if round(per_second, 6) >= factor:
            return f"{per_second / factor:.3g} {unit}"
    return f"{per_second:.3g}"


def size_axis(axes: Axes, sizes: list[int]) -> None:
    """A logarithmic x axis of message sizes in bytes: a tick at each, and as many names as have room."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([float(size) for size in sizes]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=6)
    named = set(sizes[:: 1 + (len(sizes) - 1) // 8])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value) if value in named else ""))


def time_axis(axis: Axis) -> None:
    """Name the ticks of an axis in nanoseconds, already logarithmic, as times."""
    _decades(axis, FuncFormatter(lambda value, _: format_time(value)))


def rate_axis(axis: Axis) -> None:
    """Name the ticks of an axis in counts per second, already logarithmic."""
    _decades(axis, FuncFormatter(lambda value, _: format_rate(value)))


def _decades(axis: Axis, formatter: FuncFormatter) -> None:
    low, high = axis.get_view_interval()
    # Fewer than two decades hold too few powers of ten to read a value off.
    named = (1.0, 2.0, 5.0) if high < 60 * low else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=named, numticks=20))
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(LogLocator(base=10, subs=tuple(range(2, 10)), numticks=200))
    axis.set_minor_formatter(NullFormatter())
