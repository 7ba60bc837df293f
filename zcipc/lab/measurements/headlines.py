"""The headline numbers of the related work, each beside what comes closest to it on this machine.

None of it is the same experiment: other machines, other kernels, other work. What can be compared is how many times better one
way is than the other, on one machine; `HEADLINES` says for each what is alike and what is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import pandas as pd

from zcipc.lab.errors import UsageError
from zcipc.lab.harness.launch import measure
from zcipc.lab.harness.progress import report
from zcipc.lab.harness.stats import summarise
from zcipc.lab.measurements import headlines_tasks as closest
from zcipc.lab.runs.results import Run

SEED = 20240


@dataclass(frozen=True)
class Headline:
    """A number of a related system, and what is measured here in its place.

    Attributes:
        system: as in Table 1.
        reported: the numbers, each a ratio of the same kind as `ratio`, or in the unit of `measurement` if there is none.
        measurement: one of `MEASUREMENTS`.
        ours, theirs: series of it: what stands for the system, and what for that which it is better than; "" if for nothing.
        alike, unlike: what can be compared, and what cannot.
    """

    system: str
    reported: tuple[float, ...]
    measurement: str
    ours: str
    theirs: str
    alike: str
    unlike: str


@dataclass(frozen=True)
class Measurement:
    """What one launch measures: a value for each series, in `unit`; whether more is better."""

    what: str
    unit: str
    more_is_better: bool
    task: Callable[..., closest.Values]


MEASUREMENTS = {
    "round_trip_one_core": Measurement("round trip of 64 B, one core", "ns", False, closest.round_trip),
    "round_trip_two_cores": Measurement("round trip of 64 B, two cores", "ns", False, closest.round_trip),
    "one_core_rate": Measurement("moved by one core, 64 KiB a message", "bit/s", True, closest.one_core_rate),
    "serialization": Measurement("object with an array of 1 MiB, there and back", "bit/s", True, closest.serialization),
    "neighbour": Measurement("time of a neighbour that reads memory beside", "times as long", False, closest.neighbour),
    "calls_per_message": Measurement("system calls of the sender of a stream", "a message", False, closest.calls_per_message),
}

_KERNEL_IPC = "The kernel's own IPC of the same machine against one that stays out of it."
_MICROKERNELS = (
    "theirs are synchronous calls between address spaces of microkernels, by VMFUNC; ours are two polled queues on Linux"
)

HEADLINES = (
    Headline(
        "SkyBridge", (1.49, 5.86, 19.6), "round_trip_one_core", "zcipc_block", "pipe",
        _KERNEL_IPC, f"On one core both of ours must enter the scheduler, theirs must not; {_MICROKERNELS}.",
    ),
    Headline(
        "SkyBridge", (16.08, 20.31, 49.76), "round_trip_two_cores", "zcipc", "pipe",
        _KERNEL_IPC, f"Ours keeps a second core awake, theirs needs none; {_MICROKERNELS}.",
    ),
    Headline(
        "Snap", (82.2e9,), "one_core_rate", "zcipc_block", "",
        "Bits a second that a single core moves from one program to another.",
        "Theirs goes over a network between machines; ours stays in memory, and counts writing and reading every byte.",
    ),
    Headline(
        "Snap", (82.2 / 22,), "one_core_rate", "zcipc_block", "socketpair",
        "The gain over the kernel's sockets, on one core.", "Their sockets are TCP over a network, ours Unix sockets.",
    ),
    Headline(
        "Zerializer", (19e9, 128e9), "serialization", "zcipc", "",
        "Bits a second of objects made into bytes and into objects again.",
        "Theirs is hardware in the DMA path (FPGA, ASIC) for protocol buffers; ours is one core, and mostly copies one array.",
    ),
    Headline(
        "zIO", (1.8,), "serialization", "zcipc", "pickle",
        "What leaving out intermediate copies gains.", "Theirs removes them from unchanged programs; ours is another call.",
    ),
    Headline(
        "z-READ", (1.07,), "neighbour", "zcipc_touch", "",
        "A neighbour that needs memory bandwidth, beside traffic without copies.",
        "Theirs reads files; ours are messages, and the neighbour has a core of its own on a virtual machine.",
    ),
    Headline(
        "z-READ", (1.96,), "neighbour", "pipe", "",
        "The same beside traffic that the kernel copies.", "As above.",
    ),
    Headline(
        "Userspace Bypass", (), "calls_per_message", "zcipc", "",
        "System calls that are not made.", "Theirs runs unchanged programs, and reports time saved, not calls.",
    ),
    Headline(
        "Userspace Bypass", (), "calls_per_message", "pipe", "",
        "The same where they are made.", "As above.",
    ),
    Headline(
        "TAS, Demikernel", (), "round_trip_two_cores", "zcipc", "",
        "Requests and answers, through queues in user space, by processes that poll.",
        "Theirs cross a network between machines, and no number of them is in the paper.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """How much is measured: launches, messages of a stream, rounds of serialization."""

    launches: int
    messages: int
    rounds: int


EFFORTS = {"smoke": Effort(2, 500, 10), "quick": Effort(5, 2000, 30), "full": Effort(12, 5000, 60)}


def headlines(run: Run, *, launches: int | None = None) -> pd.DataFrame:
    """Table `headlines`: one row for each measurement, series and launch; `launches` None: as the profile says."""
    started = datetime.now(UTC)
    if run.profile not in EFFORTS:
        raise UsageError(f"there is no profile {run.profile!r}; profiles: {', '.join(EFFORTS)}")
    effort = EFFORTS[run.profile]
    launches = launches or effort.launches
    arguments: dict[str, tuple[Any, ...]] = {
        "round_trip_one_core": (True,),
        "round_trip_two_cores": (False,),
        "one_core_rate": (effort.messages,),
        "serialization": (effort.rounds,),
        "neighbour": (),
        "calls_per_message": (effort.messages,),
    }
    order = Random(SEED)
    schedule = [(launch, name) for launch in range(launches) for name in order.sample(list(MEASUREMENTS), len(MEASUREMENTS))]
    rows = []
    for done, (launch, name) in enumerate(schedule):
        measurement = MEASUREMENTS[name]
        report(done, len(schedule), measurement.what)
        for series, value in measure(measurement.task, *arguments[name]).items():
            rows.append({"measurement": name, "series": series, "launch": launch, "value": value, "unit": measurement.unit})
    report(len(schedule), len(schedule), "headlines")
    parameters = {"launches": launches, "messages": effort.messages, "rounds": effort.rounds}
    return run.save("headlines", pd.DataFrame(rows), parameters=parameters, seed=SEED, started=started)


def beside(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each headline: what was reported, and value, low and high of what was measured here; the table headlines.

    Where a headline says how many times better, so does the row, launch by launch.
    """
    rows = []
    for headline in HEADLINES:
        measurement = MEASUREMENTS[headline.measurement]
        values = frame[frame["measurement"] == headline.measurement].pivot_table("value", "launch", "series")
        ours = values[headline.ours]
        if headline.theirs:
            theirs = values[headline.theirs]
            ours = ours / theirs if measurement.more_is_better else theirs / ours
        estimate = summarise(ours.rename("value").reset_index().assign(all=0), by=["all"], value="value").iloc[0]
        rows.append(
            {
                "system": headline.system,
                "measurement": headline.measurement,
                "what": measurement.what,
                "series": headline.ours,
                "better_than": headline.theirs,
                "reported": list(headline.reported),
                "unit": "times better" if headline.theirs else measurement.unit,
                **{column: estimate[column] for column in ("value", "low", "high", "launches")},
                "alike": headline.alike,
                "unlike": headline.unlike,
            }
        )
    return pd.DataFrame(rows)
