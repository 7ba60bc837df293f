"""What a scenario is: several systems that do the same work, measured in turns and compared with one another.

A scenario lists its series. Each is measured once in every launch, in an order drawn anew, so that whatever drifts on the
machine meets all of them alike; one fresh process, and those it forks, for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from zcipc.lab.errors import LabError, UsageError
from zcipc.lab.harness.launch import call

LIMIT = "limit"  # the system that does only what the hardware demands
PIPE = "pipe"  # the kernel's


class Measured(NamedTuple):
    """One value of one launch."""

    bytes: int  # in a message; 0 where there is none
    metric: str
    unit: str
    value: float


def as_measured(result: Any) -> list[Measured]:
    """The answer of a task that makes the values itself."""
    return list(result)


@dataclass(frozen=True)
class Series:
    """One system in one scenario.

    Attributes:
        system: zcipc, or what it is compared with.
        runtime: `compiled` or `python`.
        mode: how it waits, or what else sets it apart.
        task: measures it, in a fresh process, and answers: `task(connection, *arguments)`; see `zcipc.lab.harness.launch`.
        read: makes values of the answer.
        optional: whether it may be missing or fail, which is then said and no error.
    """

    system: str
    runtime: str
    mode: str
    task: Callable[..., None]
    arguments: tuple[Any, ...]
    read: Callable[[Any], list[Measured]] = as_measured
    optional: bool = False


def own(system: str, runtime: str, mode: str, function: Callable[..., list[Measured]], *arguments: Any) -> Series:
    """A series that is measured by one function."""
    return Series(system, runtime, mode, call, (function, arguments))


@dataclass(frozen=True)
class Effort:
    """How thorough a profile is.

    Attributes:
        launches: of every series.
        blocks: timed blocks in a launch; it counts with their median.
        samples: round trips that are timed one by one.
        stream_bytes: bytes that a bulk stream moves in a block.
        stream_messages: messages that a stream of small ones moves in a block.
        idle_s: seconds for which a receiver waits for nothing.
        largest_bytes: the longest message handed over; making its connection takes seconds, to reserve eight times as much.
    """

    launches: int
    blocks: int
    samples: int
    stream_bytes: int
    stream_messages: int
    idle_s: float
    largest_bytes: int


EFFORTS = {
    "smoke": Effort(
        launches=3, blocks=3, samples=500, stream_bytes=64 << 20, stream_messages=500_000,
        idle_s=2.0, largest_bytes=16 << 20,
    ),
    "quick": Effort(
        launches=7, blocks=7, samples=2000, stream_bytes=128 << 20, stream_messages=1_000_000,
        idle_s=10.0, largest_bytes=128 << 20,
    ),
    "full": Effort(
        launches=15, blocks=11, samples=10_000, stream_bytes=512 << 20, stream_messages=2_000_000,
        idle_s=10.0, largest_bytes=1 << 30,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """One question, and the series that answer it.

    Attributes:
        what: it says in a few words.
        series: for an effort, and with the peers among them or not.
        together: every launch of every series at once, because they do nothing.
    """

    name: str
    what: str
    series: Callable[[Effort, bool], Sequence[Series]]
    together: bool = False


class WrongMessage(LabError):
    """A message arrived that was not sent, or one did not arrive."""


def effort(profile: str) -> Effort:
    """The effort of a profile.

    Raises:
        UsageError: there is none of this name; lists those that are.
    """
    try:
        return EFFORTS[profile]
    except KeyError:
        raise UsageError(f"there is no profile {profile!r}; profiles: {', '.join(EFFORTS)}") from None


def demand_none(failures: int, what: str) -> None:
    """
    Raises:
        WrongMessage: there were failures.
    """
    if failures:
        raise WrongMessage(f"{failures} messages of {what} arrived torn, lost or out of order")
