"""One experiment, measured for a run by a process of its own: what a notebook starts in the background, and may kill.

python -m zcipc.lab.interactive.measure RUN ping-pong --launches 3 --sizes 64,1024 --transports zcipc,limit
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from zcipc.lab.errors import LabError
from zcipc.lab.measurements import experiments
from zcipc.lab.runs.results import Run

EXPERIMENTS: Mapping[str, Callable[..., pd.DataFrame]] = {"ping-pong": experiments.ping_pong, "latency": experiments.latency}
PROFILE = "quick"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as `arguments` say; 1, with the reason on standard error, if that was not possible."""
    parser = argparse.ArgumentParser(prog="python -m zcipc.lab.interactive.measure", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--launches", type=int)
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--transports", type=lambda text: text.split(","))
    chosen = parser.parse_args(arguments)
    try:
        run = Run.open(chosen.run, PROFILE)
        EXPERIMENTS[chosen.experiment](run, sizes=chosen.sizes, launches=chosen.launches, transports=chosen.transports)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
