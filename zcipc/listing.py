"""What the shared memory on this machine looks like from outside: who is where and lives, how full the queues are, who sleeps.

A segment in use has no name, and the memory of a `Queue` or a `Broadcast` never has one. Such memory is found as a mapping, in
`/proc/PID/maps`, and read through `/proc/PID/mem`, which the kernel allows to root, to a process about itself and, where
`kernel.yama.ptrace_scope` is 0, about others of the same user. A segment that still has its name is read as the file that it
is. Nothing is written, and nobody is stopped: numbers that belong together were read within the same microsecond or so, not at
the same instant.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zcipc import broadcast, queues
from zcipc.algorithms import shared_queue
from zcipc.algorithms.seats import SEATS, seat_holder
from zcipc.ends import end as channel
from zcipc.memory.onlooker import Place, ProcessState, QueueState, SeatState, printable, process_state
from zcipc.memory.segment import DIRECTORY, PREFIX, read_header

_ENOUGH = channel.control_offset(SEATS)  # bytes from the start of a segment, up to the end of its control words
_DELETED = " (deleted)"
_ANONYMOUS = "/memfd:"
_MEMORY = re.compile(rf"{PREFIX}({queues.KIND}|{broadcast.KIND}-[1-9][0-9]{{0,5}})")  # what `AnonymousMemory.create` calls it


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment, or the memory of a queue or a broadcast, at one moment.

    Attributes:
        name: below `/dev/shm`; the name it had, if that is unlinked. Of memory that never had one, its number.
        named: whether the name is still there, so that a process may come.
        size: bytes.
        kind: channel, ipc, queue or broadcast; empty if it could not be read, like what follows.
        creator: who made it; None for what never had a name.
        seats, queues: who may be where, and what passes each of them; an ipc segment has no such queues.
        mapped_by: the processes that have it mapped, as far as they may be looked at.
        unreadable: why it could not be read; empty if it could.
    """

    name: str
    named: bool
    size: int
    kind: str
    creator: ProcessState | None
    seats: tuple[SeatState, ...]
    queues: tuple[QueueState, ...]
    mapped_by: tuple[int, ...]
    unreadable: str


@dataclass(frozen=True, slots=True)
class _Mapping:
    pid: int
    address: int
    name: str
    size: int


_File = tuple[int, int]  # device and inode: a segment may have had several names


def snapshot() -> list[SegmentState]:
    """Every segment that has a name, and what is mapped by a process that may be looked at, sorted by name."""
    mappings: dict[_File, list[_Mapping]] = {}
    for file, mapping in _mappings():
        mappings.setdefault(file, []).append(mapping)
    named = dict(_named())
    states = [_named_state(path, size, mappings.get(file, [])) for file, (path, size) in named.items()]
    for file, mapped in mappings.items():
        if file not in named:
            anonymous = _MEMORY.fullmatch(mapped[0].name.removeprefix(_ANONYMOUS))
            states.append(_anonymous_state(anonymous[1], file[1], mapped) if anonymous else _unnamed_state(mapped))
    return sorted(states, key=lambda state: state.name)


def _named() -> Iterator[tuple[_File, tuple[Path, int]]]:
    for path in DIRECTORY.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            status = path.stat()
            if stat.S_ISREG(status.st_mode):  # anybody may put something else there, a FIFO to wait at for example
                yield (status.st_dev, status.st_ino), (path, status.st_size)


def _mappings() -> Iterator[tuple[_File, _Mapping]]:
    """Where processes have the start of a segment, or of anonymous memory of ours, mapped, see proc_pid_maps(5)."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):  # gone, or another user's
            for line in (process / "maps").read_text(errors="replace").split("\n"):
                if PREFIX not in line:
                    continue
                extent, _, offset, device, inode, path = line.split(maxsplit=5)
                name = path.removeprefix(f"{DIRECTORY}/").removesuffix(_DELETED)
                is_ours = name.startswith(PREFIX) or _MEMORY.fullmatch(name.removeprefix(_ANONYMOUS))
                if is_ours and int(offset, 16) == 0:
                    start, end = (int(address, 16) for address in extent.split("-"))
                    major, minor = (int(number, 16) for number in device.split(":"))
                    yield (os.makedev(major, minor), int(inode)), _Mapping(int(process.name), start, name, end - start)


def _named_state(path: Path, size: int, mappings: list[_Mapping]) -> SegmentState:
    memory, problem = b"", ""
    try:
        with path.open("rb") as file:
            memory = file.read(_ENOUGH)
    except OSError as error:
        problem = f"{path}: {error.strerror}"
    return _segment_state(path.name, True, size, memory, mappings, problem)


def _unnamed_state(mappings: list[_Mapping]) -> SegmentState:
    memory, problem = _memory_of(mappings, _ENOUGH)
    return _segment_state(mappings[0].name, False, mappings[0].size, memory, mappings, problem)


def _memory_of(mappings: list[_Mapping], size: int) -> tuple[bytes, str]:
    """The first `size` bytes; none, and why not, if no process lets us."""
    problem = ""
    for mapping in mappings:
        try:
            with Path(f"/proc/{mapping.pid}/mem").open("rb", buffering=0) as file:
                file.seek(mapping.address)
                if memory := file.read(size):
                    return memory, ""
        except OSError as error:  # it ended, or may not be looked at: another one may
            problem = f"the memory of process {mapping.pid}: {error.strerror}"
    return b"", problem


def _segment_state(name: str, named: bool, size: int, memory: bytes, mappings: list[_Mapping], problem: str) -> SegmentState:
    header = read_header(memory)
    if header is None:
        problem = problem or "it is not signed: its creator is making it, or died meanwhile"
    elif len(memory) < _ENOUGH:
        problem = f"it has {size:,} bytes, which no channel has"
    capacity = channel.queue_capacity(size)
    places: tuple[Place, ...] = ()
    seats: tuple[SeatState, ...] = ()
    if header is not None and not problem:
        if header.kind == channel.KIND and capacity > 0:
            places = channel.observe(memory, capacity)
        else:
            seats = tuple(_bare_seat(memory, index) for index in range(SEATS))
    return SegmentState(
        name=printable(name),
        named=named,
        size=size,
        kind=printable(header.kind) if header else "",
        creator=process_state(header.creator) if header else None,
        seats=seats or tuple(seat for seat, _ in places),
        queues=tuple(queue for _, queue in places),
        mapped_by=_pids(mappings),
        unreadable=printable(problem),
    )


def _bare_seat(memory: bytes, index: int) -> SeatState:
    holder = seat_holder(memory, index)
    return SeatState(f"end {index}", process_state(holder) if holder else None, (), closed=False)


def _anonymous_state(kind: str, inode: int, mappings: list[_Mapping]) -> SegmentState:
    size, namespace = mappings[0].size, _namespace_of(mappings[0].pid)
    kind, _, count = kind.partition("-")
    readers = int(count or 0)
    start = broadcast.data_offset(readers) if readers else shared_queue.DATA_OFFSET
    memory, problem = _memory_of(mappings, start)
    places: tuple[Place, ...] = ()
    if size <= start:
        problem = f"it has {size:,} bytes, which no {kind} has"
    elif memory and readers:
        places = broadcast.observe(memory, size - start, readers, namespace)
    elif memory:
        places = queues.observe(memory, size - start, namespace)
    return SegmentState(
        name=f"memfd-{inode}",
        named=False,
        size=size,
        kind=kind,
        creator=None,
        seats=tuple(seat for seat, _ in places),
        queues=tuple(queue for _, queue in places),
        mapped_by=_pids(mappings),
        unreadable=problem,
    )


def _namespace_of(pid: int) -> int:
    """The pid namespace of a process; 0 if it may not be looked at."""
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return 0


def _pids(mappings: list[_Mapping]) -> tuple[int, ...]:
    return tuple(sorted({mapping.pid for mapping in mappings}))
