"""The shared memory of this machine's channels: who sits at each end and lives, how full each direction is, who sleeps.

A direction is shown as fill and bytes passed since the start, from the seat beside it to the other. Segments whose name is
gone, because both seats are taken, are found through the processes that map them; their names stand in brackets.
"""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcipc.listing import ProcessState, SegmentState

HELP = "segments: seats, alive or dead, fill, who sleeps"
_NAME_SHOWN = 18  # characters; a random name has 38
_PROGRAM_SHOWN = 28
_HEADINGS = ("segment", "kind", "bytes", "creator", "seat", "program", "fill", "passed", "sleeps for")


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
    creator = _who(state.creator) if state.creator else "?"
    own = (name if state.named else f"({name})", state.kind or "?", f"{state.size:,}", creator)
    seats = []
    for index, seat in enumerate(state.seats):
        who, program = (_who(seat.process), seat.process.program) if seat.process else ("free", "")
        queue = state.queues[index] if state.queues else None
        seats.append(
            (
                who + (", closed" if seat.closed else ""),
                program[:_PROGRAM_SHOWN],
                f"{queue.queued / queue.capacity:.0%}" if queue else "",
                f"{queue.passed:,}" if queue else "",
                ", ".join(seat.sleeps_for),
            )
        )
    blank = ("",) * len(own)
    return [(*(blank if index else own), *seat) for index, seat in enumerate(seats or [("?", "", "", "", "")])]


def _who(process: "ProcessState") -> str:
    state = {True: "alive", False: "dead", None: "in another pid namespace"}[process.alive]
    return f"{process.pid} {state}"


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
