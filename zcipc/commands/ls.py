"""The shared memory of this machine's channels, queues and broadcasts: who is where and lives, how full they are, who sleeps.

Beside the end of a channel stands what it sends: fill, and bytes since the start. A side of a queue shows who has its lock.
What has no name, or none any more because both seats are taken, is found through the processes that map it; its name stands in
brackets.
"""

import argparse
import itertools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcipc.listing import SegmentState

HELP = "segments: seats, alive or dead, fill, who sleeps"
_NAME_SHOWN = 18  # characters; a random name has 38
_PROGRAM_SHOWN = 28
_HEADINGS = ("segment", "kind", "bytes", "creator", "seat", "process", "program", "fill", "passed", "sleeps for")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="all that is known, as JSON, names and programs in full")


def run(options: argparse.Namespace) -> int:
    import dataclasses
    import json

    from zcipc import listing

    states = listing.snapshot()
    if options.json:
        print(json.dumps([dataclasses.asdict(state) for state in states], indent=1))
        return 0
    if states:
        print(_aligned([_HEADINGS, *(line for state in states for line in _lines(state))]))
    else:
        print("no segments")
    for state in states:
        if state.unreadable:
            print(f"{state.name}: cannot be read: {state.unreadable}")
    if os.geteuid() != 0:
        print("other users' processes may not be looked at: what only they have mapped is not listed")
    return 0


def _lines(state: "SegmentState") -> list[tuple[str, ...]]:
    """One line for each seat; the segment's own columns stand on the first."""
    name = state.name if len(state.name) <= _NAME_SHOWN else state.name[: _NAME_SHOWN - 1] + "…"
    creator = str(state.creator) if state.creator else ""
    own = (name if state.named else f"({name})", state.kind or "?", f"{state.size:,}", creator)
    seats = []
    for seat, queue in itertools.zip_longest(state.seats, state.queues):
        fill = (f"{queue.queued / queue.capacity:.0%}", f"{queue.passed:,}") if queue else ("", "")
        program = seat.process.program[:_PROGRAM_SHOWN] if seat.process else ""
        seats.append((seat.role, str(seat), program, *fill, ", ".join(seat.sleeps_for)))
    blank = ("",) * len(own)
    return [(*(blank if index else own), *seat) for index, seat in enumerate(seats or [("?", "", "", "", "", "")])]


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
