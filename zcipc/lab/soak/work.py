"""The loops of a soak: a caller that sends numbered messages of every size in every way, and an answerer that echoes them.

An *interval* opens a connection for each way of waiting in turn, hands its other end over through a connection that lasts,
uses it and closes it. What is left open shows in the counts that end the interval. Answers are compared with what was sent,
byte by byte and in order; so nothing lost, doubled, torn or swapped passes.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection as OsConnection
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from zcipc import Closed, Connection, Pipe, Waiting, listing
from zcipc.lab.torture.messages import SHORTEST, number_of, sealed

CAPACITY = 1 << 18  # bytes: so small that the queue wraps all the time, so large that messages are worth lending
PROBE_BYTES = 64
_LONGEST = CAPACITY - 256  # an array carries its shape as well
_MOST_IN_BURST = 32
_PROBE_EVERY = 8  # messages; a multiple of the number of ways, so that all probes go the same way
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Record = dict[str, Any]


def call(control: Connection, records: OsConnection, interval_s: float, intervals: int, seed: int) -> None:
    """The caller: for each interval one record to `records`, with counts, latencies in ns and what is open at its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for who started this
    random = Random(seed)
    control.send(os.getpid())
    answerer = control.recv()
    start = time.monotonic()
    for interval in range(intervals):
        record: Record = {"interval": interval, "messages": 0, "bytes": 0, "wrong": 0}
        for index, waiting in enumerate(Waiting):
            until = start + interval_s * (interval + (index + 1) / len(Waiting))
            record |= _phase(control, waiting, until, random, record)
        record["end_s"] = time.monotonic() - start
        records.send(record | _open_now({"caller": os.getpid(), "answerer": answerer}))
    control.close()
    records.close()


def answer(control: Connection) -> None:
    """The answerer: echo all that comes on each connection that `control` brings, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control.recv()
    control.send(os.getpid())
    with suppress(Closed):
        while True:
            number = 0
            with control.recv() as connection, suppress(Closed):
                while True:
                    message = receive(connection, number)
                    if len(message) >= SHORTEST and number_of(message) != number:
                        message = b""  # the caller will miss it
                    send(connection, number, message)
                    number += 1
            control.send(number)


def _phase(control: Connection, waiting: Waiting, until: float, random: Random, record: Record) -> Record:
    """Traffic on a new connection that waits as `waiting`; the counts of `record`, continued, and its latencies."""
    messages, size, wrong = record["messages"], record["bytes"], record["wrong"]
    probes: list[int] = []
    ours, theirs = Pipe(capacity=CAPACITY, waiting=waiting)
    with ours:
        control.send(theirs)
        theirs.close()
        for burst in _bursts(random):
            started = time.perf_counter_ns()
            for number, message in burst:
                send(ours, number, message)
            answers = [receive(ours, number) for number, _ in burst]
            if _is_probe(burst[0][0]):
                probes.append(time.perf_counter_ns() - started)
            messages += len(burst)
            size += sum(len(message) for _, message in burst)
            wrong += sum(answer != message for answer, (_, message) in zip(answers, burst, strict=True))
            if time.monotonic() >= until:
                break
    wrong += control.recv() != burst[-1][0] + 1  # it has closed its end, and answered that many
    p50, p99 = np.percentile(probes, (50, 99))
    name = waiting.name.lower()
    return {"messages": messages, "bytes": size, "wrong": wrong, f"p50_{name}_ns": float(p50), f"p99_{name}_ns": float(p99)}


def _bursts(random: Random) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered messages, in groups that are sent before the first answer is read; a group fits into the queue."""
    number = 0
    while True:
        alone = _is_probe(number) or random.random() < 0.7
        count = 1 if alone else random.randint(2, _MOST_IN_BURST)
        burst = []
        for _ in range(count):
            if _is_probe(number):
                length = PROBE_BYTES
            else:
                length = random.randint(0, random.choice((16, 512, _LONGEST)) if alone else CAPACITY // (4 * _MOST_IN_BURST))
            burst.append((number, _message(number, length)))
            number += 1
        yield burst


def _is_probe(number: int) -> bool:
    return number % _PROBE_EVERY == 0


def _message(number: int, length: int) -> bytes:
    return sealed(number, length) if length >= SHORTEST else number.to_bytes(SHORTEST, "little")[:length]


def send(connection: Connection, number: int, message: bytes) -> None:
    """Send in the way whose turn it is; `receive` knows it by the number."""
    match number % 4:
        case 0:
            connection.send_bytes(message)
        case 1:
            connection.send(message)
        case 2:
            connection.send(np.frombuffer(message, np.uint8))
        case _:
            with connection.loan(len(message)) as buffer:
                buffer[:] = message


def receive(connection: Connection, number: int) -> bytes:
    match number % 4:
        case 0:
            return connection.recv_bytes()
        case 1:
            return bytes(connection.recv())
        case 2:
            return bytes(connection.recv().tobytes())
        case _:
            with connection.borrow() as buffer:
                return bytes(buffer)


def _open_now(processes: dict[str, int]) -> Record:
    """Resident memory and descriptors of each process, and the segments that they have mapped or made."""
    found: Record = {}
    for name, pid in processes.items():
        found[f"rss_{name}_bytes"] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        found[f"descriptors_{name}"] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    pids = set(processes.values())
    found["segments"] = sum(bool(pids & {*state.mapped_by}) for state in listing.snapshot())
    return found
