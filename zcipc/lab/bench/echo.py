"""Messages there and back from plain Python: copied, and written and read in place; zcipc and, if wanted, its peers."""

from collections.abc import Sequence
from typing import Any

from zcipc.lab import peers
from zcipc.lab.bench.scenario import PIPE, Effort, Measured, Scenario, Series
from zcipc.lab.peers import BLOCK, COPY, HYBRID, LOAN, POLL
from zcipc.lab.peers.exchange import exchange

SMALL, LARGE = 64, 1 << 20  # bytes
_BLOCK_NS = 4_000_000
OS_PIPE = "os_pipe"
_MODES = (POLL, HYBRID, BLOCK)  # the fastest first
_BURSTS = 1  # exchange streams at least one


def _echo(entry: peers.Series, size: int, effort: Effort) -> Series:
    def read(row: dict[str, Any]) -> list[Measured]:
        return [
            Measured(size, "round_trip", "ns", row["round_trip_ns"]),
            Measured(size, "round_trip_p50", "ns", row["p50_ns"]),
            Measured(size, "round_trip_p99", "ns", row["p99_ns"]),
        ]

    arguments = (*entry, size, effort.blocks, _BLOCK_NS, effort.samples, _BURSTS)
    name = PIPE if (entry.system, entry.mode) == (OS_PIPE, BLOCK) else entry.system
    return Series(name, "python", entry.mode, exchange, arguments, read, optional=entry.system not in ("zcipc", OS_PIPE))


def _series(face: str, sizes: Sequence[int], effort: Effort, with_peers: bool) -> Sequence[Series]:
    """Every system that has the face, in its fastest mode; and the kernel's pipe as everybody uses it, who sleeps."""
    wanted = [entry for entry in peers.series(None if with_peers else ["zcipc", OS_PIPE]) if entry.face == face]
    fastest = {entry.system: entry for entry in sorted(wanted, key=lambda entry: _MODES.index(entry.mode), reverse=True)}
    asleep = [entry for entry in wanted if entry.system == OS_PIPE and entry.mode == BLOCK]
    return [_echo(entry, size, effort) for entry in dict.fromkeys([*fastest.values(), *asleep]) for size in sizes]


BYTES = Scenario(
    "bytes_echo",
    "send_bytes and recv_bytes from plain Python, there and back",
    lambda effort, peers: _series(COPY, (SMALL,), effort, peers),
)
LOANS = Scenario(
    "loan_echo",
    "loan and borrow from plain Python, there and back, first and last byte touched",
    lambda effort, peers: _series(LOAN, (SMALL, LARGE), effort, peers),
)
