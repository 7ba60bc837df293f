"""Table 1, executed: what backs each mark in a row of our own.

A mark is a count of things that went as the property says, all of which must: pages, messages, objects. What could not be
tried says why, and its cell stays empty.
"""

import ctypes
import math
import mmap
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import zcipc
from zcipc.lab.bench import caged
from zcipc.lab.errors import LabError
from zcipc.lab.harness.launch import Partner, measure, shared_array
from zcipc.lab.measurements.headlines_tasks import calls_per_message
from zcipc.lab.runs.results import Run
from zcipc.memory.segment import DIRECTORY, PREFIX

PATIENCE_S = 30.0
MESSAGES = 1000  # in each count of messages, but for the million under seccomp
STREAMS = 5  # that share as many
_FRAME_BITS = (1 << 55) - 1  # of an entry of /proc/PID/pagemap, see proc_pid_pagemap(5)


class Count(NamedTuple):
    """How many of how many went as they should, and how it was seen, in a few words."""

    good: int
    tried: int
    seen: str


@dataclass(frozen=True)
class Trial:
    """What a property means here, in a sentence, and the function that tries it, in a fresh process."""

    question: str
    function: Callable[[], Count]


def evidence(run: Run) -> pd.DataFrame:
    """Table `table1_evidence`: one row for each property of Table 1.

    Columns: property, question, holds (all that was tried went well, and something was), good and tried (counts), seen (how),
    missing (why it could not be tried; else empty).
    """
    started = datetime.now(UTC)
    rows = [{"property": name, "question": trial.question, **_attempt(trial)} for name, trial in TRIALS.items()]
    return run.save("table1_evidence", pd.DataFrame(rows), started=started)


def _attempt(trial: Trial) -> dict[str, Any]:
    try:
        count = measure(trial.function)
    except LabError as error:
        return {
            "holds": False,
            "good": 0,
            "tried": 0,
            "seen": "",
            "missing": re.sub(r"^[\w.]+: ", "", str(error).splitlines()[-1]),
        }
    return {"holds": 0 < count.tried == count.good, **count._asdict(), "missing": ""}


def _same_place() -> Count:
    """Messages that the receiver reads where the sender wrote them, and whose bytes change for the sender when it writes.

    The sender keeps its view of each message, so that the room is not used again.
    """
    ours, theirs = zcipc.Pipe()
    changed, places = shared_array(1), shared_array(MESSAGES)

    def receive() -> None:
        for number in range(MESSAGES):
            with theirs.borrow(timeout=PATIENCE_S) as buffer:
                address = np.frombuffer(buffer, np.uint8).ctypes.data
                places[number] = address - _mapping(os.getpid()).start
                ctypes.memset(address, number % 251 + 1, len(buffer))  # past the view, which may only be read
                changed[0] = number + 1

    partner = Partner(receive)
    good = 0
    for number in range(MESSAGES):
        with ours.loan(4096, timeout=PATIENCE_S) as buffer:
            written = np.frombuffer(buffer, np.uint8)
            written[:] = 0
        _await(lambda number=number: changed[0] > number)  # type: ignore[misc]
        place = written.ctypes.data - _mapping(os.getpid()).start
        good += bool(place == places[number] and (written == number % 251 + 1).all())
        del written
    partner.join()
    return Count(good, MESSAGES, "messages read where they were written")


def _rendezvous() -> Count:
    """Calls of receive that began before their message was sent and returned after it, with it."""
    ours, theirs = zcipc.Pipe()
    waiting, returned = shared_array(1), shared_array(MESSAGES)

    def receive() -> None:
        for number in range(MESSAGES):
            waiting[0] = number + 1
            message = theirs.recv_bytes(timeout=PATIENCE_S)
            returned[number] = time.monotonic_ns() if message == number.to_bytes(8, "little") else 0

    partner = Partner(receive)
    sent = np.zeros(MESSAGES, np.int64)
    for number in range(MESSAGES):
        _await(lambda number=number: waiting[0] > number)  # type: ignore[misc]
        time.sleep(0.0002)
        sent[number] = time.monotonic_ns()
        ours.send_bytes(number.to_bytes(8, "little"), timeout=PATIENCE_S)
    partner.join()
    return Count(int((returned >= sent).sum()), MESSAGES, "receives that waited for their message")


OBJECTS: tuple[Any, ...] = (
    None,
    True,
    -(1 << 80),
    math.pi,
    complex(1, -2),
    "Übergröße, 大きい",
    b"\0bytes\xff",
    (1, (2, (3,))),
    ["a", ["list", []]],
    {"a": {"nested": [1, 2]}, 3: {4, 5}},
    frozenset({1, "two"}),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    timedelta(microseconds=1),
    Path("a/path"),
    range(3, 30, 3),
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    np.array([], np.uint8),
    np.arange(100)[::7],
    np.zeros(1 << 17),
    {"array": np.arange(5), "beside": "text"},
    [np.float32(1.5), np.datetime64("2024-01-01")],
)
"""Objects to send there and back, one of each kind that a message holds in its own way, and then some."""


def _round_trips() -> Count:
    """Objects that come back from the other process equal, and of the same type."""
    ours, theirs = zcipc.Pipe()

    def echo() -> None:
        for _ in OBJECTS:
            theirs.send(theirs.recv(timeout=PATIENCE_S), timeout=PATIENCE_S)

    partner = Partner(echo)
    good = 0
    for sent in OBJECTS:
        ours.send(sent, timeout=PATIENCE_S)
        good += _are_alike(sent, ours.recv(timeout=PATIENCE_S))
    partner.join()
    return Count(good, len(OBJECTS), "kinds of objects came back as they were sent")


def _are_alike(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return type(other) is dict and one.keys() == other.keys() and all(_are_alike(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


class _Mapping(NamedTuple):
    """Where a process has a segment, and of which file, from which byte on."""

    start: int
    end: int
    file: tuple[str, str, str]  # offset, device, inode


def _mapping(pid: int) -> _Mapping:
    """The one segment of the library that the process has mapped."""
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        if f"{DIRECTORY}/{PREFIX}" in line:
            extent, _, *file = line.split()[:5]
            start, end = (int(address, 16) for address in extent.split("-"))
            return _Mapping(start, end, (file[0], file[1], file[2]))
    raise LabError(f"process {pid} has no segment mapped")


def _same_pages() -> Count:
    """Pages of the segment that are the same page of memory for both processes.

    The kernel tells the numbers of page frames to a privileged process; any other sees that both map one place of one file.
    """
    ours, theirs = zcipc.Pipe()
    done = shared_array(1)

    def hold() -> None:
        theirs.send_bytes(theirs.recv_bytes(timeout=PATIENCE_S))
        _await(lambda: done[0] != 0)

    partner = Partner(hold)
    ours.send_bytes(b"both seats are taken", timeout=PATIENCE_S)
    ours.recv_bytes(timeout=PATIENCE_S)
    mappings = [_mapping(pid) for pid in (os.getpid(), partner.pid)]
    frames = [_frames(pid, mapping) for pid, mapping in zip((os.getpid(), partner.pid), mappings, strict=True)]
    done[0] = 1
    partner.join()
    if all(numbers.all() for numbers in frames):
        return Count(int((frames[0] == frames[1]).sum()), len(frames[0]), "pages with the same page frame in both processes")
    same = mappings[0].file == mappings[1].file
    return Count(same * len(frames[0]), len(frames[0]), "pages of the same file and place in both processes")


def _frames(pid: int, mapping: _Mapping) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The number of the page frame of each page of a mapping; 0 where the kernel does not tell."""
    pages = (mapping.end - mapping.start) // mmap.PAGESIZE
    try:
        with Path(f"/proc/{pid}/pagemap").open("rb") as entries:
            entries.seek(mapping.start // mmap.PAGESIZE * 8)
            return np.frombuffer(entries.read(pages * 8), np.uint64) & np.uint64(_FRAME_BITS)
    except PermissionError:
        return np.zeros(pages, np.uint64)


def _without_the_kernel() -> Count:
    if len(os.sched_getaffinity(0)) < 2:
        raise LabError("two processes that may not sleep need two cores, and one is usable")
    (messages,) = caged.messages()
    return Count(int(messages.value), caged.MESSAGES, "messages under seccomp, which kills at the first system call")


def _fewer_calls() -> Count:
    """Streams whose sender makes fewer system calls than through a pipe. It may make some: who finds no room may sleep."""
    good = 0
    for _ in range(STREAMS):
        calls = calls_per_message(MESSAGES // STREAMS, ("pipe", "zcipc"))
        good += calls["zcipc"] < calls["pipe"]
    return Count(good, STREAMS, "streams whose sender makes fewer system calls than through a pipe")


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"the other process said nothing for {PATIENCE_S:g} s")
        time.sleep(0)


TRIALS = {
    "zero_copy": Trial("Is a message read at the very bytes at which it was written?", _same_place),
    "synchronous": Trial("Does a receive wait for its message?", _rendezvous),
    "serialization": Trial("Do objects come back as they were sent?", _round_trips),
    "shared_memory": Trial("Are the pages of both processes the same memory?", _same_pages),
    "kernel_bypass": Trial("Do messages pass while the kernel kills at the first system call?", _without_the_kernel),
    "reduced_overhead": Trial("Does a message make fewer system calls than through a pipe?", _fewer_calls),
}
"""What is tried for each property, by the name of its column in Table 1."""
