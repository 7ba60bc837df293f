"""The tables of a bench in a terminal: its rows, and its bars. Both can be read in 80 columns, where no word is broken."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from zcipc.lab.bench.bars import Judged, Target
from zcipc.lab.bench.rows import Row
from zcipc.lab.harness.stats import Estimate

_COLOURS = {"pass": "green", "short": "bold red", "not measured": "dim"}
_SIGNS = {"at most": "≤", "at least": "≥", "holds": "holds"}
_SCALES = {"ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")), "1/s": ((1e6, "M/s"), (1e3, "k/s"), (1, "/s"))}
_SCALES |= {"B/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1, "B/s")), "B": ((1e6, "MB"), (1e3, "kB"), (1, "B"))}


def rows_table(scenario: str, rows: Iterable[Row]) -> Table:
    """The rows of one scenario; the interval is that of the value, over launches."""
    lines = []
    for row in rows:
        scale, unit = _scale(row.value, row.unit)
        value = f"{_number(row.value / scale)} {unit}".rstrip()
        interval = _interval(row.low / scale, row.high / scale)
        names = [name.replace("_", " ") for name in (row.system, row.mode, row.metric)]
        lines.append([*names, _size(row.bytes), value, interval, _ratio(row.vs_limit), _ratio(row.vs_pipe)])
    headings = ("system", "mode", "metric", "size", "value", "95 % interval", "/ limit", "/ pipe")
    return _table(scenario, headings, lines, texts=("system", "mode", "metric"))


def bars_table(judged: Iterable[Judged]) -> Table:
    """One line a bar: its target, its value, and whether that passes or falls short."""
    lines = []
    for entry in judged:
        bar, colour = entry.bar, _COLOURS[entry.verdict]
        verdict = f"[{colour}]{entry.verdict}[/]"
        lines.append([str(bar.number), bar.what, _target(bar.target), *_estimate(entry.estimate), verdict])
    return _table("bars", ("no.", "what", "target", "value", "95 % interval", "verdict"), lines, texts=("what", "target"))


def _table(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]], texts: Sequence[str]) -> Table:
    """Columns headed as `texts` wrap between words, the others not at all; one with nothing in it is left out."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    used = [place for place in range(len(headings)) if any(line[place] for line in lines)]
    for heading in (headings[place] for place in used):
        if heading in texts:
            words = " ".join([heading, *(line[headings.index(heading)] for line in lines)]).split()
            table.add_column(heading, min_width=max(map(len, words)))
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*(line[place] for place in used))
    return table


def _target(target: Target) -> str:
    """As short as it can be said."""
    return f"{_SIGNS[target.demand]} {target.bound:,} {target.unit.removeprefix('times')}".rstrip()


def _estimate(estimate: Estimate | None) -> tuple[str, str]:
    if estimate is None:
        return "", ""
    return _number(estimate.value), _interval(estimate.low, estimate.high)


def _interval(low: float, high: float) -> str:
    """Nothing if it is not known, or no wider than its value."""
    return "" if low != low or low == high else f"{_number(low)} .. {_number(high)}"


def _size(count: int) -> str:
    """Bytes, in the largest unit that leaves a whole number; nothing for none."""
    if count == 0:
        return ""
    power = next(power for power in (3, 2, 1, 0) if count % (1 << 10 * power) == 0)
    return f"{count >> 10 * power:,} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def _ratio(value: float) -> str:
    return "" if value != value else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """What to divide by, and the name of that."""
    scales = _SCALES.get(unit, ((1, "" if unit == "1" else unit),))
    return next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
