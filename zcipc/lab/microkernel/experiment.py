"""Files read and written, small calls, and a driver that is killed: over zcipc, pipes and sockets, and without a server.

The limit is one process alone that reads a file into its own memory, piece by piece, and uses it. Files are in the page cache.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zcipc.lab.harness.launch import measure, pin
from zcipc.lab.harness.progress import report
from zcipc.lab.microkernel.servers import Bytes
from zcipc.lab.microkernel.system import PIECE_BYTES, System, checksum, pieces
from zcipc.lab.microkernel.transports import TRANSPORTS
from zcipc.lab.runs import profiles
from zcipc.lab.runs.results import Run

SEED = 20240
LIMIT = "limit"
RECOVERY_BYTES = 1 << 20  # of the file that is read when the driver was killed
CALLS = 300  # in a block of small ones
_FEWEST, _MOST = 2, 200  # times that a file is read or written for one value

Values = list[tuple[str, int, str, float]]
"""Operation, bytes of the file, unit, value."""


def microkernel(run: Run, *, sizes: Sequence[int] | None = None, launches: int | None = None) -> pd.DataFrame:
    """Application, file server and driver over every transport. Table `microkernel`, returned; None: as the profile says.

    One row for each transport, operation, file size and launch: `read` and `write` in bytes/s, from opening a file to having
    closed it; `call`, `noticed` and `recovered` in ns.
    """
    started = datetime.now(UTC)
    plan = profiles.profile(run.profile).microkernel
    sizes, launches = sizes or plan.sizes, launches or plan.launches
    order = random.Random(SEED)
    series = [LIMIT, *TRANSPORTS]
    schedule = [(launch, name) for launch in range(launches) for name in order.sample(series, len(series))]
    rows: list[dict[str, Any]] = []
    for sequence, (launch, name) in enumerate(schedule):
        report(sequence, len(schedule), f"microkernel, {name}")
        key = {"transport": name, "launch": launch, "sequence": sequence}
        task = alone if name == LIMIT else served
        for operation, size, unit, value in measure(task, name, tuple(sizes), plan.file_bytes, plan.kills):
            rows.append(key | {"operation": operation, "file_bytes": size, "value": value, "unit": unit})
    report(len(schedule), len(schedule), "microkernel")
    parameters = {"sizes": list(sizes), "launches": launches, "file_bytes": plan.file_bytes, "kills": plan.kills}
    parameters |= {"piece_bytes": PIECE_BYTES}
    return run.save("microkernel", pd.DataFrame(rows), parameters=parameters, seed=SEED, started=started)


def served(transport: str, sizes: Sequence[int], volume: int, kills: int) -> Values:
    """What a launch measures of one transport."""
    with tempfile.TemporaryDirectory(prefix="zcipc-") as directory:
        contents = _files(Path(directory), {*sizes, RECOVERY_BYTES})
        system = System(transport, Path(directory).resolve())
        values: Values = []
        for size in sizes:
            values.append(_rate("read", size, volume, lambda name: system.read(name), contents))
            values.append(_rate("write", size, volume, lambda name: system.write(name, contents[int(name)]), contents))
        system.driver.pid()
        began = time.monotonic_ns()
        for _ in range(CALLS):
            system.driver.pid()
        values.append(("call", 0, "ns", (time.monotonic_ns() - began) / CALLS))
        expected = checksum(contents[RECOVERY_BYTES])
        for _ in range(kills):
            noticed, recovered = system.recover(str(RECOVERY_BYTES), expected)
            values += [("noticed", RECOVERY_BYTES, "ns", noticed), ("recovered", RECOVERY_BYTES, "ns", recovered)]
        system.close()
    return values


def alone(_limit: str, sizes: Sequence[int], volume: int, _kills: int) -> Values:
    """The same files, read and written by one process with nobody in between."""
    pin(0)
    with tempfile.TemporaryDirectory(prefix="zcipc-") as directory:
        root = Path(directory)
        contents = _files(root, sizes)
        buffer = np.empty(PIECE_BYTES, np.uint8)

        def read(name: str) -> int:
            file, total = os.open(root / name, os.O_RDONLY), 0
            for offset, size in pieces(os.fstat(file).st_size):
                os.preadv(file, [buffer[:size].data], offset)
                total = checksum(buffer[:size], total)
            os.close(file)
            return total

        def write(name: str) -> int:
            file, content = os.open(root / name, os.O_RDWR), contents[int(name)].data
            written = 0
            for offset, size in pieces(len(content)):
                written += os.pwritev(file, [content[offset : offset + size]], offset)
            os.close(file)
            return written

        values: Values = []
        for size in sizes:
            values.append(_rate("read", size, volume, read, contents))
            values.append(_rate("write", size, volume, write, contents))
    return values


_Contents = dict[int, Bytes]


def _files(root: Path, sizes: Sequence[int] | set[int]) -> _Contents:
    """A file of random bytes for each size, named by it; what is in them."""
    source = np.random.default_rng(SEED)
    contents = {size: source.integers(0, 256, size, np.uint8) for size in sizes}
    for size, content in contents.items():
        (root / str(size)).write_bytes(content.data)
    return contents


def _rate(
    operation: str, size: int, volume: int, act: Callable[[str], int], contents: _Contents
) -> tuple[str, int, str, float]:
    """Bytes per second of an operation on the file of `size` bytes, done until about `volume` bytes went; checked each time."""
    expected = checksum(contents[size]) if operation == "read" else size
    times = min(max(volume // size, _FEWEST), _MOST)
    elapsed = 0
    for turn in range(times + 1):  # the first warms up
        began = time.monotonic_ns()
        result = act(str(size))
        elapsed += (time.monotonic_ns() - began) * (turn > 0)
        if result != expected:
            raise ValueError(f"to {operation} {size:,} bytes gave {result}, not {expected}")
    return operation, size, "bytes/s", times * size / elapsed * 1e9
