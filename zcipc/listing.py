"""What the segments on this machine look like from outside: who sits where and lives, how full the queues are, who sleeps.

A segment in use has no name: it is found as a mapping, in `/proc/PID/maps`, and read through `/proc/PID/mem`, which the kernel
allows to root, to a process about itself and, where `kernel.yama.ptrace_scope` is 0, about others of the same user. One
that still has its name is read as the file that it is. Nothing is written, and nobody is stopped: numbers that belong together
were read within the same microsecond or so, not at the same instant.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zcipc import end as layout
from zcipc import ring
from zcipc.atomics import WORD
from zcipc.peer import Identity
from zcipc.seats import SEATS, seat_holder
from zcipc.segment import DIRECTORY, PREFIX, read_header
from zcipc.waiting import CLOSED, SLEEPING

_ENOUGH = layout.control_offset(SEATS)  # bytes from the start of a segment, up to the end of its control words
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A process that made a segment or sits in it.

    Attributes:
        pid: its number, in its own pid namespace.
        alive: None if it is of another pid namespace, where it cannot be looked up.
        program: its command, shortened; empty if it is gone.
    """

    pid: int
    alive: bool | None
    program: str


@dataclass(frozen=True, slots=True)
class SeatState:
    """One end of a channel.

    Attributes:
        process: who has the seat; None while it is free.
        sleeps_for: of "message" and "room", those for which its bell is set: it sleeps, or gave up and nothing came since.
        closed: whether it left in good order.
    """

    process: ProcessState | None
    sleeps_for: tuple[str, ...]
    closed: bool


@dataclass(frozen=True, slots=True)
class QueueState:
    """One direction of a channel, from the seat of the same index to the other one.

    Attributes:
        capacity: bytes.
        queued: bytes sent and not yet released, record headers and gaps included; 0 to `capacity`.
        passed: bytes sent so far, counted likewise.
    """

    capacity: int
    queued: int
    passed: int


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment at one moment.

    Attributes:
        name: below `/dev/shm`; the name it had, if that is unlinked.
        named: whether the name is still there, so that a process may come.
        size: bytes.
        kind, creator, seats, queues: what it says of itself. Empty or None if it could not be read; only channels have queues.
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
    """Every segment that has a name or is mapped by a process that may be looked at, sorted by name."""
    mappings: dict[_File, list[_Mapping]] = {}
    for file, mapping in _mappings():
        mappings.setdefault(file, []).append(mapping)
    named = dict(_named())
    states = [_named_state(path, size, mappings.get(file, [])) for file, (path, size) in named.items()]
    states += [_unnamed_state(mapped) for file, mapped in mappings.items() if file not in named]
    return sorted(states, key=lambda state: state.name)


def _named() -> Iterator[tuple[_File, tuple[Path, int]]]:
    for path in DIRECTORY.glob(PREFIX + "*"):
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            status = path.stat()
            yield (status.st_dev, status.st_ino), (path, status.st_size)


def _mappings() -> Iterator[tuple[_File, _Mapping]]:
    """Where processes have the start of a segment mapped, see proc_pid_maps(5)."""
    prefix = str(DIRECTORY / PREFIX)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):  # gone, or another user's
            for line in (process / "maps").read_text(errors="replace").splitlines():
                if prefix not in line:
                    continue
                extent, _, offset, device, inode, path = line.split(maxsplit=5)
                if int(offset, 16) == 0 and path.startswith(prefix):
                    start, end = (int(address, 16) for address in extent.split("-"))
                    major, minor = (int(number, 16) for number in device.split(":"))
                    name = path.removeprefix(f"{DIRECTORY}/").removesuffix(_DELETED)
                    yield (os.makedev(major, minor), int(inode)), _Mapping(int(process.name), start, name, end - start)


def _named_state(path: Path, size: int, mappings: list[_Mapping]) -> SegmentState:
    memory, problem = b"", ""
    try:
        with path.open("rb") as file:
            memory = file.read(_ENOUGH)
    except OSError as error:
        problem = f"{path}: {error.strerror}"
    return _state(path.name, True, size, memory, mappings, problem)


def _unnamed_state(mappings: list[_Mapping]) -> SegmentState:
    memory, problem = b"", ""
    for mapping in mappings:
        try:
            with Path(f"/proc/{mapping.pid}/mem").open("rb", buffering=0) as file:
                file.seek(mapping.address)
                memory = file.read(_ENOUGH)
        except OSError as error:  # it ended, or may not be looked at: another one may
            problem = f"the memory of process {mapping.pid}: {error.strerror}"
        if memory:
            break
    first = mappings[0]
    return _state(first.name, False, first.size, memory, mappings, "" if memory else problem)


def _state(name: str, named: bool, size: int, memory: bytes, mappings: list[_Mapping], problem: str) -> SegmentState:
    header = read_header(memory)
    if header is None:
        problem = problem or "it is not signed: its creator is making it, or died meanwhile"
    elif len(memory) < _ENOUGH:
        problem = f"it has {size:,} bytes, which no channel has"
    capacity = layout.queue_capacity(size)
    queues: tuple[QueueState, ...] = ()
    seats: tuple[SeatState, ...] = ()
    if header is not None and not problem:
        is_channel = header.kind == layout.KIND and capacity > 0
        seats = tuple(_seat_state(memory, index, is_channel) for index in range(SEATS))
        queues = tuple(_queue_state(memory, index, capacity) for index in range(SEATS) if is_channel)
    return SegmentState(
        name=name,
        named=named,
        size=size,
        kind=header.kind if header else "",
        creator=_process_state(header.creator) if header else None,
        seats=seats,
        queues=queues,
        mapped_by=tuple(sorted({mapping.pid for mapping in mappings})),
        unreadable=problem,
    )


def _process_state(process: Identity) -> ProcessState:
    if process.namespace != Identity.own().namespace:
        return ProcessState(process.pid, None, "")
    alive = process.is_alive()
    return ProcessState(process.pid, alive, _program(process.pid) if alive else "")


def _program(pid: int) -> str:
    """The command of a process, without the directory it lies in."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return " ".join([Path(words[0]).name, *words[1:]]).strip()


def _seat_state(memory: bytes, index: int, is_channel: bool) -> SeatState:
    holder = seat_holder(memory, index)
    process = None if holder is None else _process_state(holder)
    if not is_channel:
        return SeatState(process, (), False)
    bells = {
        "message": _word(memory, 1 - index, ring.CONSUMER_BELL),
        "room": _word(memory, index, ring.PRODUCER_BELL),
    }
    sleeps_for = tuple(what for what, bell in bells.items() if bell == SLEEPING)
    return SeatState(process, sleeps_for, CLOSED in bells.values())


def _queue_state(memory: bytes, index: int, capacity: int) -> QueueState:
    tail, head = _word(memory, index, ring.TAIL), _word(memory, index, ring.HEAD)
    return QueueState(capacity, min(max(tail - head, 0), capacity), tail)  # the head may have moved past the tail read before


def _word(memory: bytes, queue: int, offset: int) -> int:
    start = layout.control_offset(queue) + offset
    return int.from_bytes(memory[start : start + WORD], "little", signed=True)
