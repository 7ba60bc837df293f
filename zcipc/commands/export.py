"""Pack a run into one archive, an RO-Crate in a zip, to share it."""

import argparse
from pathlib import Path

HELP = "pack a run into one archive to share"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", default="reference", help="default: reference")
    parser.add_argument("--to", metavar="FILE", type=Path, help="default: zcipc-RUN.zip, here")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.publishing import archive
    from zcipc.lab.runs import results

    found = results.Run.open(options.run)
    print(archive.export(found, options.to or Path(f"zcipc-{found.name}.zip")))
    return 0
