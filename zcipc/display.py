"""How an object shows itself: a line as its `repr`, a table of its statistics in a notebook."""

from abc import abstractmethod
from dataclasses import fields, is_dataclass
from enum import Enum
from html import escape
from typing import Any

# Metadata of a field.
OF_CAPACITY = {"of": "capacity"}  # it is shown as a part of another one
A_NAME = {"name": True}  # its number counts nothing
_LEFT = 'style="text-align: left"'  # no colours: the page has its own, dark or light
_NOTHING = "—"


class Displayed:
    """What shows what it is, in which state, and its statistics. None of the three raises, whatever has happened to it."""

    __slots__ = ()

    @abstractmethod
    def statistics(self) -> Any:
        """A snapshot: a dataclass."""

    @abstractmethod
    def _label(self) -> str:
        """What it is. Looks at nothing that is shared, because errors say it that are part of normal work."""

    @abstractmethod
    def _condition(self) -> str:
        """Whether it can be used, and who is at the other end."""

    def __repr__(self) -> str:
        return f"<{self._label()}, {self._condition()}>"

    def _repr_html_(self) -> str:
        return table(self._label(), self._condition(), self.statistics())


def table(label: str, state: str, statistics: Any) -> str:
    """HTML: a row for the state, and one for each field of `statistics`, a dataclass."""
    return f"<table><caption {_LEFT}>{escape(label)}</caption>{_row('state', escape(state))}{_rows(statistics)}</table>"


def _rows(statistics: Any) -> str:
    rows = []
    for field in fields(statistics):
        value = getattr(statistics, field.name)
        cell = str(value) if value is not None and "name" in field.metadata else _cell(value)
        if "of" in field.metadata and value is not None:
            cell += _bar(value, getattr(statistics, field.metadata["of"]))
        rows.append(_row(field.name.replace("_", " "), cell))
    return "".join(rows)


def _row(name: str, cell: str) -> str:
    return f"<tr><th {_LEFT}>{name}</th><td {_LEFT}>{cell}</td></tr>"


def _cell(value: Any) -> str:
    if is_dataclass(value) and "__str__" not in type(value).__dict__:
        return f"<table>{_rows(value)}</table>"
    if isinstance(value, tuple):
        return "<br>".join(map(_cell, value)) or _NOTHING
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: _NOTHING}[value]
    if isinstance(value, Enum):
        return value.name.lower()
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _bar(value: int, whole: int) -> str:
    return f' <meter min="0" max="{whole}" value="{value}">{value / whole:.0%}</meter>'
