"""What a diagram is drawn with: a sheet measured in inches, boxes, arrows, numbered steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from zcipc.lab.plots.style import INK, ThemedFigure, theme

Point = tuple[float, float]

TEXT = 7.0
SMALL = 6.2
POINTS = 72
"""Points in an inch."""
MIDDLE = 0.32
"""Height of the optical middle of a line of text over its baseline, in font sizes."""


@dataclass(frozen=True)
class Ink:
    """How an area is filled and outlined."""

    fill: str
    edge: str
    width: float = 0.8
    dashed: bool = False


PLAIN = Ink("#ffffff", "#595959")
USER = Ink("#f3f3f3", "#595959")
KERNEL = Ink("#f6dcc6", "#b34e00")
SHARED = Ink("#c3ddf0", "#00568a")
MESSAGE = Ink("#0069a8", "#00456e")
GHOST = Ink("none", "#8c8c8c", 0.6, dashed=True)

DATA = "#0069a8"
CONTROL = "#595959"


@dataclass(frozen=True)
class Box:
    """A rectangle on the sheet, by its lower left corner and its extent in inches."""

    x: float
    y: float
    width: float
    height: float

    def at(self, across: float, up: float) -> Point:
        """The point `across` and `up` the box, each from 0 to 1."""
        return self.x + across * self.width, self.y + up * self.height

    @property
    def left(self) -> Point:
        """The middle of the left edge."""
        return self.at(0, 0.5)

    @property
    def right(self) -> Point:
        """The middle of the right edge."""
        return self.at(1, 0.5)

    @property
    def top(self) -> Point:
        """The middle of the upper edge."""
        return self.at(0.5, 1)

    @property
    def bottom(self) -> Point:
        """The middle of the lower edge."""
        return self.at(0.5, 0)

    @property
    def center(self) -> Point:
        """The middle."""
        return self.at(0.5, 0.5)


class Canvas:
    """A sheet of `width` by `height` inches; its origin is the lower left corner."""

    def __init__(self, width: float, height: float) -> None:
        with theme():
            self.figure = ThemedFigure(figsize=(width, height))
            self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
            self.axes.set_axis_off()
            self.axes.set_xlim(0, width)
            self.axes.set_ylim(0, height)

    def box(self, box: Box, ink: Ink = PLAIN, text: str = "", *, title: str = "", bold: bool = False) -> Box:
        """Draw a box, with `text` in its middle or `title` in its upper left corner; return it."""
        rounding = 0.05
        self.axes.add_patch(
            FancyBboxPatch(
                (box.x + rounding, box.y + rounding),
                box.width - 2 * rounding,
                box.height - 2 * rounding,
                boxstyle=f"round,pad={rounding},rounding_size={rounding}",
                facecolor=ink.fill,
                edgecolor=ink.edge,
                linewidth=ink.width,
                linestyle=(0, (3, 2)) if ink.dashed else "-",
            )
        )
        if text:
            color = "white" if ink is MESSAGE else INK
            self.text(box.center, text, bold=bold, color=color)
        if title:
            self.text((box.x + 0.1, box.y + box.height - 0.08), title, bold=True, align="left", rise="top")
        return box

    def cells(self, box: Box, contents: Sequence[Ink]) -> None:
        """Divide `box` into a row of cells, one for each of `contents`."""
        for index, ink in enumerate(contents):
            ends = index / len(contents), (index + 1) / len(contents)
            corners = [box.at(ends[0], 0), box.at(ends[1], 0), box.at(ends[1], 1), box.at(ends[0], 1)]
            # Lighter than a filled cell and darker than a free one: it shows between two of either.
            edge = {"edgecolor": "#5b9cc7", "linewidth": 0.8}
            self.axes.add_patch(Polygon(corners, closed=True, facecolor=ink.fill, **edge))

    def area(self, corners: Sequence[Point], color: str) -> None:
        """Tint the area between `corners`."""
        self.axes.add_patch(Polygon(list(corners), closed=True, facecolor=color, edgecolor="none", zorder=0.5))

    def text(
        self,
        place: Point,
        text: str,
        *,
        size: float = TEXT,
        bold: bool = False,
        italic: bool = False,
        color: str = INK,
        align: str = "center",
        rise: str = "center",
    ) -> None:
        """Write `text` at `place`; `align` and `rise` say which point of it lies there."""
        x, y = place
        if rise == "center" and "\n" not in text:
            # Centred by its own extent, a word with a descender would stand higher than its neighbours.
            rise, y = "baseline", y - MIDDLE * size / POINTS
        with theme():
            self.axes.text(
                x,
                y,
                text,
                fontsize=size,
                fontweight="bold" if bold else "normal",
                fontstyle="italic" if italic else "normal",
                color=color,
                ha=align,
                va=rise,
                zorder=5,
                linespacing=1.35,
            )

    def line(self, points: Sequence[Point], color: str, width: float, dashed: bool) -> None:
        """Draw a line through `points`."""
        xs, ys = zip(*points, strict=True)
        style = (0, (4, 2.5)) if dashed else "-"
        self.axes.plot(xs, ys, color=color, linewidth=width, linestyle=style, solid_joinstyle="miter", zorder=2.5)

    def control(self, *points: Point, both: bool = False) -> None:
        """A thin, dashed arrow through `points`: control passes, or one thing refers to another."""
        self._arrow(points, CONTROL, 0.8, 6.0, dashed=True, both=both)

    def data(self, *points: Point) -> None:
        """A thick arrow through `points`: the bytes of a message move."""
        self._arrow(points, DATA, 2.0, 9.0, dashed=False, both=False)

    def number(self, place: Point, number: int) -> None:
        """A numbered disc at `place`."""
        self.axes.add_patch(Circle(place, 0.085, facecolor=INK, edgecolor="white", linewidth=0.8, zorder=4))
        x, y = place
        # Digits are as tall as capitals, whose middle is higher than that of a word.
        self.text((x, y - 0.004), str(number), size=SMALL, bold=True, color="white")

    def _arrow(self, points: Sequence[Point], color: str, width: float, head: float, dashed: bool, both: bool) -> None:
        *corners, last, end = points
        if corners:
            self.line([*corners, last], color, width, dashed)
        self.axes.add_patch(
            FancyArrowPatch(
                last,
                end,
                arrowstyle=("<|-|>" if both else "-|>") + ",head_length=0.55,head_width=0.28",
                mutation_scale=head,
                shrinkA=0,
                shrinkB=1.0,
                color=color,
                linewidth=width,
                linestyle=(0, (4, 2.5)) if dashed else "-",
                joinstyle="miter",
                capstyle="butt",
                zorder=3,
            )
        )
