"""Take in a run that somebody exported, after checking every file in it."""

import argparse
from pathlib import Path

HELP = "take in a run that somebody exported"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="what `zcipc export` made")
    parser.add_argument("--as", metavar="NAME", dest="name", help="what to call it here (default: as it was called)")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.publishing import archive

    print(f"run {archive.take_in(options.file, options.name).name!r} is here; compare it: zcipc compare RUN reference")
    return 0
