"""The tables of a bench in a terminal: its rows, and its bars."""

from collections.abc import Iterable

from rich.table import Table

from zcipc.lab.bench.bars import Judged
from zcipc.lab.bench.rows import Row
from zcipc.lab.stats import Estimate

_COLOURS = {"pass": "green", "short": "bold red", "not measured": "dim"}
_SCALES = {"ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")), "1/s": ((1e6, "M/s"), (1e3, "k/s"), (1, "/s"))}
_SCALES |= {"B/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1, "B/s")), "B": ((1e6, "MB"), (1e3, "kB"), (1, "B"))}


def rows_table(scenario: str, rows: Iterable[Row]) -> Table:
    """The rows of one scenario; the interval is that of the value, over launches."""
    table = Table(title=scenario, title_justify="left", box=None, pad_edge=False)
    for heading in ("system", "mode"):
        table.add_column(heading, overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("metric", overflow="fold")
    for heading in ("value", "95 % interval", "/ limit", "/ pipe"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        scale, unit = _scale(row.value, row.unit)
        value = f"{_number(row.value / scale)} {unit}".rstrip()
        interval = _interval(row.low / scale, row.high / scale)
        size = f"{row.bytes:,}" if row.bytes else ""
        table.add_row(row.system, row.mode, size, row.metric, value, interval, _ratio(row.vs_limit), _ratio(row.vs_pipe))
    return table


def bars_table(judged: Iterable[Judged]) -> Table:
    """One line a bar: its target, its value, and whether that passes or falls short."""
    table = Table(title="bars", title_justify="left", box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("what", overflow="fold")
    for heading in ("target", "value", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for entry in judged:
        bar, colour = entry.bar, _COLOURS[entry.verdict]
        verdict = f"[{colour}]{entry.verdict}[/]"
        table.add_row(str(bar.number), bar.what, str(bar.target), *_estimate(entry.estimate), verdict)
    return table


def _estimate(estimate: Estimate | None) -> tuple[str, str]:
    if estimate is None:
        return "", ""
    return _number(estimate.value), _interval(estimate.low, estimate.high)


def _interval(low: float, high: float) -> str:
    return "" if low != low else f"{_number(low)} .. {_number(high)}"


def _ratio(value: float) -> str:
    return "" if value != value else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """What to divide by, and the name of that."""
    scales = _SCALES.get(unit, ((1, "" if unit == "1" else unit),))
    return next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
