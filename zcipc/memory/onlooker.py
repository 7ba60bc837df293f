"""What an onlooker sees in shared memory: who is there and lives, who sleeps, how full a queue is. Nothing is written.

Each kind of memory is read, from a copy of its first bytes, beside where it is written: `end.observe`, `queues.observe`,
`broadcast.observe`. With these an object tells of itself, and `listing` of what others have.
"""

from dataclasses import dataclass
from pathlib import Path

from zcipc.memory.peer import Identity, own_namespace
from zcipc.native.atomics import WORD


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

    def __str__(self) -> str:
        return f"{self.pid} {({True: 'alive', False: 'dead', None: 'in another pid namespace'})[self.alive]}"


@dataclass(frozen=True, slots=True)
class SeatState:
    """One end of a channel, one side of a queue, or the sender or a reader of a broadcast.

    Attributes:
        role: which of them it is.
        process: who has the seat, or the lock of a queue's side just now; None while it is free.
        sleeps_for: of "message" and "room", those for which its bell is set: it sleeps, or gave up and nothing came since. All
            on a side of a queue share a bell, and so do all readers of a broadcast, of which those count that have read all.
        closed: whether it left in good order, or was disconnected.
    """

    role: str
    process: ProcessState | None
    sleeps_for: tuple[str, ...]
    closed: bool

    def __str__(self) -> str:
        return f"{self.process or 'free'}{', closed' if self.closed else ''}"


@dataclass(frozen=True, slots=True)
class QueueState:
    """What passes a seat: what an end of a channel, a side of a queue or a sender puts in; what consumers and readers take out.

    Attributes:
        capacity: bytes.
        queued: bytes sent and not yet released, record headers and gaps included; 0 to `capacity`.
        passed: bytes so far, counted likewise.
        messages: so far; None where each process counts for itself, in memory of its own.
    """

    capacity: int
    queued: int
    passed: int
    messages: int | None = None


Place = tuple[SeatState, QueueState]


def process_state(process: Identity) -> ProcessState:
    if process.namespace != own_namespace():
        return ProcessState(process.pid, None, "")
    alive = process.is_alive()
    return ProcessState(process.pid, alive, _program(process.pid) if alive else "")


def _program(pid: int) -> str:
    """The command of a process, without the directory it lies in."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it ended, or no descriptor is left
        return ""
    return printable(" ".join([Path(words[0]).name, *words[1:]]).strip())


def printable(text: str) -> str:
    """`text` without what a terminal would obey: anybody may choose the name of a program or a file."""
    return "".join(character if character.isprintable() else "?" for character in text)


def word(memory: bytes, offset: int) -> int:
    return int.from_bytes(memory[offset : offset + WORD], "little", signed=True)


def queued(capacity: int, tail: int, head: int) -> int:
    """Bytes between two positions that were read one after the other, or that somebody may have spoilt."""
    return min(max(tail - head, 0), capacity)
