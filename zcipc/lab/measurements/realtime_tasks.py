"""Inside a launch: a periodic task that sends a message at every beat, one that receives it, and load beside them."""

import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numba import int32, int64, types

from zcipc import Waiting
from zcipc.lab.harness.launch import Partner, shared_array
from zcipc.lab.measurements import loops
from zcipc.lab.measurements.tasks import SETTLE_S, Times, TornMessage
from zcipc.lab.transports import TRANSPORTS, Transport
from zcipc.lab.transports.ring import Copying
from zcipc.native.atomics import WORD, clock, store
from zcipc.native.compiled import jit

MESSAGE_BYTES = 64
FIFO_PRIORITY = 50  # of 99: above the kernel's threads that serve devices, below those it must not lose
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}
_WARM_UP_BEATS = 10
_NS_PER_S = 1_000_000_000
_CLOCK_MONOTONIC, _TIMER_ABSTIME = 1, 1
_MEMORY_BYTES = 64 << 20  # more than a cache holds
_FILE_BYTES = 4 << 20

_clock_nanosleep = types.ExternalFunction("clock_nanosleep", int32(int32, int32, int64, int64))


class Spinning(Copying):
    """A connection whose ends never sleep."""

    waiting = Waiting.SPIN


SERIES: Mapping[str, type[Transport]] = {
    "pipe": TRANSPORTS["pipe"],
    "zcipc_block": TRANSPORTS["zcipc_block"],
    "zcipc": TRANSPORTS["zcipc"],
    "zcipc_spin": Spinning,
}


@jit
def beat(end, length, period, wakes, instant):
    """Sleep until each beat, note how late it was (ns), and send a message with the time of the beat.

    `instant` is the address of a struct timespec. The first beat is a period from now.
    """
    intended = clock() + period
    for index in range(len(wakes)):
        store(instant, intended // _NS_PER_S)
        store(instant + WORD, intended % _NS_PER_S)
        while _clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, instant, 0) != 0:
            pass
        wakes[index] = clock() - intended
        loops.post(end, length, intended)
        intended += period


def beats(series: str, load: str, rate_hz: int, fifo: bool, seconds: float) -> dict[str, float]:
    """One launch: `seconds` of beats at `rate_hz`; what is late, from the beat until woken, and until the message is read.

    Both tasks run under SCHED_FIFO if `fifo`. Times in ns; a quantile that no message lies beyond is NaN.

    Raises:
        PermissionError: `fifo`, and this user may not.
    """
    transport = SERIES[series](MESSAGE_BYTES)
    count = _WARM_UP_BEATS + max(int(rate_hz * seconds), 20)
    deliveries, ready = shared_array(count), shared_array(1)

    def receive() -> None:
        end = transport.compiled_end(1)
        _schedule(fifo)
        ready[0] = 1
        if failures := loops.observe(end, MESSAGE_BYTES, deliveries):
            raise TornMessage(f"{failures} messages through {series} arrived torn, lost or out of order")

    with loaded(load):
        partner = Partner(receive)
        end = transport.compiled_end(0)
        _schedule(fifo)
        while not ready[0]:
            time.sleep(SETTLE_S)
        wakes, instant = np.zeros(count, np.int64), np.zeros(2, np.int64)
        beat(end, MESSAGE_BYTES, _NS_PER_S // rate_hz, wakes, instant.ctypes.data)
        partner.join()
    transport.close()
    wakes, deliveries = wakes[_WARM_UP_BEATS:], deliveries[_WARM_UP_BEATS:]
    missed = int(np.count_nonzero(deliveries > _NS_PER_S // rate_hz))
    return {"messages": len(deliveries), "missed": missed, **_late("wake", wakes), **_late("delivery", deliveries)}


def _late(name: str, values: Times) -> dict[str, float]:
    told = {key: quantile for key, quantile in QUANTILES.items() if round(len(values) * (1 - quantile), 6) >= 1}
    return {
        **{f"{name}_{key}_ns": float(np.quantile(values, told[key])) if key in told else np.nan for key in QUANTILES},
        f"{name}_max_ns": float(values.max()),
    }


def may_schedule() -> bool:
    """Whether this process may run under SCHED_FIFO."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        _schedule(True)
    except PermissionError:
        return False
    os.sched_setscheduler(0, *before)
    return True


def _schedule(fifo: bool) -> None:
    if fifo:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))


@contextlib.contextmanager
def loaded(load: str) -> Iterator[None]:
    """A process for each core that makes `load` while the block runs, under the ordinary scheduler."""
    work = LOADS[load]
    workers = [_fork(work) for _ in sorted(os.sched_getaffinity(0))] if work else []
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def _compute() -> None:
    number = 1
    while True:
        number = number * 6364136223846793005 % (1 << 64)


def _copy_memory() -> None:
    source, target = np.ones((2, _MEMORY_BYTES // 2), np.uint8)
    while True:
        np.copyto(target, source)


def _write_files() -> None:
    with tempfile.TemporaryDirectory() as folder:
        block = random.randbytes(_FILE_BYTES)
        with (Path(folder) / "load").open("wb", buffering=0) as file:
            while True:
                file.seek(0)
                file.write(block)
                os.fsync(file.fileno())


LOADS: Mapping[str, Callable[[], None] | None] = {"idle": None, "cpu": _compute, "memory": _copy_memory, "io": _write_files}
