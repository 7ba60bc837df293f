"""Kill, stop and fork processes that use zcipc or another library, and show what the other side gets to see.

Nothing else that uses shared memory should be started meanwhile: what is left behind is told by comparison.
"""

import argparse

from zcipc.commands.console import console

HELP = "what a killed, stopped or forked process does to the other: zcipc and its peers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="SYSTEM", action="append", help="may be repeated (default: all)")
    parser.add_argument("--fault", metavar="FAULT", action="append", help="may be repeated (default: all)")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="of each fault (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="keep the rows there; what it holds of other systems stays")


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.table import Table

    from zcipc.lab.faults import run as faults

    rows = faults.table(options.only, options.fault, options.repetitions)
    if options.json is not None:
        faults.keep(rows, Path(options.json))
    cells = faults.summary(rows)
    shown = Table(title=f"of {options.repetitions} repetitions", title_justify="left", show_lines=True)
    for heading in ("fault", *cells.columns):
        shown.add_column(heading)
    for fault, row in zip(cells.index, cells.to_numpy().tolist(), strict=True):
        shown.add_row(fault, *row)
    console().print(shown)
    return 0
