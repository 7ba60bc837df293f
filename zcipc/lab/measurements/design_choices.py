"""What each design choice of zcipc buys: the choice as shipped and switched off, side by side in one run.

The variants of a choice are measured in one launch, in random order and right after each other, and compared within it: where
the two processes lie, and whom the machine serves besides, moves all of them alike. Launches of all choices are interleaved.
Every message is written and read in full and checked.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from zcipc.lab.harness.launch import measure
from zcipc.lab.harness.progress import report
from zcipc.lab.measurements import design_tasks
from zcipc.lab.measurements.design_tasks import Measurement, Result
from zcipc.lab.runs import profiles
from zcipc.lab.runs.results import Run

SEED = 20240

_SMALL = (("round_trip", 8), ("round_trip", 64), ("stream", 8))
_STREAM = (("stream", 8),)
_ONE_TRIP = (("round_trip", 64),)
_TRIP_AND_STREAM = (("round_trip", 64), ("stream", 8))
_SIZES = tuple(("round_trip", size) for size in (64, 4096, 65_536, 262_144))
_CALLS = (("call", 64), ("interpreted_round_trip", 64))
_LARGE = (("round_trip", 1 << 20),)
_FIRST_LAP = (("first_lap", 65_536),)


@dataclass(frozen=True)
class Variant:
    """One way to decide: how a reader calls it, what it is in `zcipc.lab.variants`, messages in a record."""

    label: str
    name: str
    batch: int = 1

    def measured(self, metric: str, size: int) -> Measurement:
        """What is measured of the variant to learn `metric` of messages of `size` bytes."""
        return self.name, metric, size * self.batch


@dataclass(frozen=True)
class Choice:
    """What is shipped, what there could be in its place, and the metrics and message sizes (bytes) that compare them."""

    name: str
    shipped: Variant
    others: tuple[Variant, ...]
    comparisons: tuple[tuple[str, int], ...]

    @property
    def variants(self) -> tuple[Variant, ...]:
        return self.shipped, *self.others


CHOICES: tuple[Choice, ...] = (
    Choice("flag", Variant("in the record", "queue"), (Variant("index of its own", "separate_indices"),), _SMALL),
    Choice("peer's index", Variant("cached", "queue"), (Variant("read each time", "read_each_time"),), _SMALL),
    Choice(
        "control words",
        Variant("128 B apart", "queue"),
        (Variant("64 B apart", "line_64"), Variant("side by side", "no_padding")),
        _SMALL,
    ),
    Choice("payload begins", Variant("at 8 B", "queue"), (Variant("at 64 B", "aligned_64"),), _SMALL),
    Choice("waker's order", Variant("by membarrier", "loaning"), (Variant("by a fence", "fenced"),), _SMALL),
    Choice(
        "waiting",
        Variant("spin, then futex", "loaning"),
        (Variant("spin", "spinning"), Variant("futex at once", "sleeping"), Variant("semaphore", "semaphores")),
        _ONE_TRIP,
    ),
    Choice("call", Variant("entry point", "entry_point"), (Variant("dispatcher", "dispatcher"),), _CALLS),
    Choice("payload", Variant("loaned", "loaning"), (Variant("copied in and out", "copying"),), _SIZES),
    Choice(
        "batch",
        Variant("1 a record", "loaning"),
        tuple(Variant(f"{batch} a record", "loaning", batch) for batch in (8, 64, 512)),
        _STREAM,
    ),
    Choice(
        "capacity",
        Variant("the default", "loaning"),
        (Variant("4 KiB", "capacity_4k"), Variant("64 KiB", "capacity_64k"), Variant("16 MiB", "capacity_16m")),
        _TRIP_AND_STREAM,
    ),
    Choice(
        "pages",
        Variant("4 KiB", "populated"),
        (Variant("huge, on request", "transparent_huge"), Variant("huge, from the pool", "hugetlb")),
        _LARGE,
    ),
    Choice(
        "first touch",
        Variant("mapped", "populated"),
        (Variant("reserved", "reserved"), Variant("not even reserved", "untouched")),
        _FIRST_LAP,
    ),
)


def design_choices(run: Run, *, launches: int | None = None) -> pd.DataFrame:
    """Every choice as shipped and switched off. Table `design_choices`, returned; None: as the profile says.

    One row for each choice, variant, metric, message size and launch: `value` in ns a message, round trip or call, and
    `missing`, which says why there is no value, where this machine does not offer the variant.
    """
    started = datetime.now(UTC)
    profile = profiles.profile(run.profile)
    launches = launches or profile.launches
    order = random.Random(SEED)
    schedule = [(launch, choice) for launch in range(launches) for choice in order.sample(CHOICES, len(CHOICES))]
    rows: list[dict[str, Any]] = []
    for sequence, (launch, choice) in enumerate(schedule):
        report(sequence, len(schedule), f"design choices, {choice.name}")
        measurements = [variant.measured(*comparison) for variant in choice.variants for comparison in choice.comparisons]
        rows += _rows(choice, launch, sequence, measure(design_tasks.compare, measurements, profile.blocks))
    report(len(schedule), len(schedule), "design choices")
    names = [choice.name for choice in CHOICES]
    rows.sort(key=lambda row: names.index(row["choice"]))
    parameters = {"launches": launches, "blocks": profile.blocks}
    return run.save("design_choices", pd.DataFrame(rows), parameters=parameters, seed=SEED, started=started)


def _rows(choice: Choice, launch: int, sequence: int, results: dict[Measurement, Result]) -> list[dict[str, Any]]:
    rows = []
    for variant in choice.variants:
        for metric, size in choice.comparisons:
            value, missing = results[variant.measured(metric, size)]
            key = {"choice": choice.name, "variant": variant.label, "shipped": variant is choice.shipped}
            key |= {"metric": metric, "message_bytes": size, "launch": launch, "sequence": sequence}
            rows.append(key | {"value": value / variant.batch, "unit": "ns", "missing": missing})
    return rows
