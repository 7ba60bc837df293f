"""Live channels, queues and broadcasts: what passes, how full they are, who waits, who is dead. The busiest come first.

Beside the end of a channel stands what it sends; beside the two sides of a queue what all put and all get; beside a reader of a
broadcast what it read. Bytes count with their record headers. Items are counted by queues alone: a channel keeps its counts in
memory of each process's own. Who waits is who sleeps, not who spins. Ctrl-C ends it. Where the output is no terminal, one table
is printed. Nothing is written to shared memory, and nobody is held up.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zcipc.commands.console import console

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from zcipc.listing import SegmentState
    from zcipc.memory.onlooker import QueueState, SeatState

HELP = "live: what passes, how full, who waits, who is dead"
_NAME_SHOWN = 8  # characters
_BAR = 5  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds between two looks (default: 1)")
    parser.add_argument("--iterations", type=int, metavar="N", help="print N tables one below the other, and end")


def _seconds(text: str) -> float:
    if not 0.01 <= (seconds := float(text)) <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and 3600 seconds")
    return seconds


def run(options: argparse.Namespace) -> int:
    out = console()
    try:
        if options.iterations is None and out.is_terminal:
            _watch(options.interval)
        else:
            looks = _looks(options.interval)
            next(looks)  # a rate takes two
            for _ in range(options.iterations or 1):
                out.print(_table(next(looks)))
    except KeyboardInterrupt:
        pass  # how one ends it
    return 0


@dataclass(frozen=True, slots=True)
class _Line:
    """A seat, and what passes it. No rate at the first look, and none where nothing is counted."""

    seat: "SeatState"
    queue: "QueueState | None"
    bytes_per_s: float | None
    items_per_s: float | None


_Shown = tuple["SegmentState", list[_Line]]


def _looks(interval: float) -> Iterator[list[_Shown]]:
    """Every segment, the busiest first; now, and then every `interval` seconds."""
    from zcipc import listing

    then, before = 0.0, dict[str, "SegmentState"]()
    while True:
        now, states = time.monotonic(), listing.snapshot()
        shown = [(state, _lines(state, before.get(state.name), now - then)) for state in states]
        yield sorted(shown, key=lambda one: -sum(line.bytes_per_s or 0 for line in one[1]))
        then, before = now, {state.name: state for state in states}
        time.sleep(interval)


def _lines(state: "SegmentState", before: "SegmentState | None", seconds: float) -> list[_Line]:
    earlier = before.queues if before and len(before.queues) == len(state.queues) else ()
    lines = []
    for seat, queue, then in itertools.zip_longest(state.seats, state.queues, earlier):
        bytes_per_s = _rate(queue.passed, then.passed, seconds) if queue and then else None
        items_per_s = _rate(queue.messages, then.messages, seconds) if queue and then else None
        lines.append(_Line(seat, queue, bytes_per_s, items_per_s))
    return lines


def _rate(count: int | None, earlier: int | None, seconds: float) -> float | None:
    return None if count is None or earlier is None else max(count - earlier, 0) / seconds


def _watch(interval: float) -> None:
    from rich.live import Live

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        for shown in _looks(interval):
            live.update(_table(shown), refresh=True)


def _table(shown: list[_Shown]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    title = f"zcipc top, {time.strftime('%H:%M:%S')}, {len(shown)} {'segment' if len(shown) == 1 else 'segments'}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), expand=True)
    for heading in ("segment", "seat"):
        table.add_column(heading, no_wrap=True)
    table.add_column("process", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("state", no_wrap=True)
    for heading in ("bytes/s", "items/s", "fill"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("waits", no_wrap=True)
    for state, lines in shown:
        name = Text(_name(state))
        if not lines:
            table.add_row(name, Text(""), Text(f"cannot be read: {state.unreadable}"))
        for index, line in enumerate(lines):
            table.add_row(Text("") if index else name, *_cells(line, "" if index else _users(state)))
    return table


def _cells(line: _Line, users: str) -> list["Text"]:
    from rich.text import Text

    process, (state, style) = line.seat.process, _state(line.seat)
    there = state not in ("dead", "closed")
    return [
        Text(line.seat.role),
        Text(f"{process.pid} {process.program}" if process else users),
        Text(state, style),
        Text(_short(line.bytes_per_s)),
        Text(_short(line.items_per_s)),
        Text(_fill(line.queue)),
        Text(", ".join(line.seat.sleeps_for) if there else "", "yellow"),
    ]


def _name(state: "SegmentState") -> str:
    """Without what all names have in common, and of a random one the beginning."""
    return state.name.partition("-")[2][:_NAME_SHOWN]


def _users(state: "SegmentState") -> str:
    """Who stands on the first line if nobody sits there: a queue has no seats, and a segment may be left of a dead creator."""
    return f"made by {state.creator}" if state.creator else f"used by {', '.join(map(str, state.mapped_by))}"


def _state(seat: "SeatState") -> tuple[str, str]:
    """What it is called, and the style."""
    if seat.closed:
        return "closed", "dim"
    if seat.process is None:
        return ("", "") if seat.role in ("producers", "consumers") else ("free", "dim")
    return {True: ("alive", "green"), False: ("dead", "bold red"), None: ("elsewhere", "")}[seat.process.alive]


def _fill(queue: "QueueState | None") -> str:
    if queue is None:
        return ""
    share = queue.queued / queue.capacity
    return f"{'█' * round(share * _BAR):·<{_BAR}} {share:4.0%}"


def _short(value: float | None) -> str:
    """With three digits: 12345 -> 12.3k."""
    if value is None:
        return ""
    for unit in ("", "k", "M", "G", "T", "P"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}E"
