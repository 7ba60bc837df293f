"""The words of a figure in another language, for as long as it is saved.

A figure is drawn in English. `paper/LANGUAGE.yml` says what each phrase is called elsewhere, for figures and article alike.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Formatter

LANGUAGES = ("pt",)
"""Every language besides English."""

_SWAPPED_MARKS = str.maketrans(".,", ",.")


def load(root: Path, language: str) -> Callable[[str], str]:
    """The translation of a label into `language`: of the longest phrases known first, and of the decimal marks."""
    phrases: Mapping[str, str] = yaml.safe_load((root / "paper" / f"{language}.yml").read_text(encoding="utf-8"))
    longest_first = sorted(phrases, key=len, reverse=True)
    known = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def translate(label: str) -> str:
        translated = known.sub(lambda found: phrases[found[0]], label)
        return re.sub(r"(?<=\d)[.,](?=\d)", lambda found: found[0].translate(_SWAPPED_MARKS), translated)

    return translate


@contextmanager
def translated(figure: Figure, translate: Callable[[str], str]) -> Iterator[None]:
    """`figure` with all it says put through `translate`, until the block ends."""
    texts = {text: text.get_text() for text in _texts(figure)}
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    formatters = {axis: axis.get_major_formatter() for axis in axes}
    try:
        for text, label in texts.items():
            text.set_text(translate(label))
        for axis, formatter in formatters.items():
            axis.set_major_formatter(_Translated(formatter, translate))
        yield
    finally:
        for text, label in texts.items():
            text.set_text(label)
        for axis, formatter in formatters.items():
            axis.set_major_formatter(formatter)


def _texts(figure: Figure) -> list[Text]:
    found: list[Text] = figure.findobj(Text)
    return found


class _Translated(Formatter):
    """Ticks have no text until they are drawn: their formatter is asked then."""

    def __init__(self, inner: Formatter, translate: Callable[[str], str]) -> None:
        self._inner, self._translate = inner, translate

    def set_axis(self, axis: Axis | None) -> None:  # type: ignore[override]
        super().set_axis(axis)
        self._inner.set_axis(axis)

    def set_locs(self, locs: list[float]) -> None:
        self._inner.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._translate(self._inner(x, pos))
