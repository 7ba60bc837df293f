"""The descriptor of an end, readable when a message is there: for `selectors`, asyncio, `multiprocessing.connection.wait`.

An end has one from the first `fileno()` on, and is *watched* from then on. Beside each of its bells then stands where to ring:
a FIFO of the watcher, which has no name and which the waker opens as `/proc/PID/fd/N` when it first rings. The waker rings only
if the bell says that the watcher is idle: one `write` for each time that it goes idle, none for each message.

The kernel closes the FIFO's other side when the waker's process ends, and so tells of a death. Who sat down before the FIFO was
there is followed by a pidfd. What the watcher has to tell itself goes through an eventfd, because a writer of its own would
hide that death. The epoll set of the three is the descriptor of the end.

Functions take the address of the *doorbell* of an end: private words.
"""

import contextlib
import os
import select
import tempfile
from pathlib import Path

from zcipc.memory.peer import Identity
from zcipc.native.atomics import (
    WORD,
    close_descriptor,
    control_descriptor,
    load,
    open_for_writing,
    read_descriptor,
    store,
    write_descriptor,
)
from zcipc.native.compiled import jit

# The private words of a doorbell. Descriptors are stored plus one, so that zero is none.
FIFO = 0 * WORD  # what the peer rings; 0 while the end is not watched
EVENT = 1 * WORD  # what the end rings itself
EVENT_RUNG = 2 * WORD
WRITER = 3 * WORD  # the peer's FIFO, opened here; 0 until then
_CONTENT = 4 * WORD  # what is read from and written to descriptors
DOORBELL_BYTES = 5 * WORD

_PID_SHIFT = 32
_F_GETPIPE_SZ = 1032  # fails for all but pipes and FIFOs


def where_to_ring(pid: int, descriptor: int) -> int:
    """The word beside a bell that tells wakers of descriptor `descriptor` of process `pid`."""
    return pid << _PID_SHIFT | descriptor


@jit
def find_door(where, doorbell):
    """Open what `where_to_ring` named, unless it is open."""
    if load(doorbell + WRITER) == 0:
        writer = open_for_writing(where >> _PID_SHIFT, where & ((1 << _PID_SHIFT) - 1))
        if writer >= 0 and control_descriptor(writer, _F_GETPIPE_SZ) < 0:  # a peer must not make this process write to a file
            close_descriptor(writer)
            writer = -1
        store(doorbell + WRITER, writer + 1)


@jit
def ring_door(where, doorbell):
    """Make the peer's descriptor readable. It is non-blocking: a FIFO full of rings is readable already."""
    find_door(where, doorbell)
    if load(doorbell + WRITER) != 0:
        write_descriptor(load(doorbell + WRITER) - 1, doorbell + _CONTENT, 1)


@jit
def ring_own_door(doorbell):
    """Make the own descriptor readable."""
    store(doorbell + _CONTENT, 1)
    store(doorbell + EVENT_RUNG, 1)
    write_descriptor(load(doorbell + EVENT) - 1, doorbell + _CONTENT, WORD)


@jit
def silence_door(doorbell):
    """Forget all rings so far."""
    while read_descriptor(load(doorbell + FIFO) - 1, doorbell + _CONTENT, WORD) == WORD:
        pass
    if load(doorbell + EVENT_RUNG) != 0:
        store(doorbell + EVENT_RUNG, 0)
        read_descriptor(load(doorbell + EVENT) - 1, doorbell + _CONTENT, WORD)


@jit
def forget_door(doorbell):
    """Close what `find_door` opened. The watcher at the other end sees that."""
    writer = load(doorbell + WRITER)
    if writer != 0:
        store(doorbell + WRITER, 0)
        close_descriptor(writer - 1)


class Doorbell:
    """The descriptors of a watched end."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as opened:
            self._all = opened.enter_context(select.epoll())
            self.fifo: int = self._added(_nameless_fifo(), opened)
            self.event: int = self._added(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), opened)
            self._following = False
            self._opened = opened.pop_all()

    def _added(self, descriptor: int, opened: contextlib.ExitStack) -> int:
        opened.callback(os.close, descriptor)
        self._all.register(descriptor, select.EPOLLIN)
        return descriptor

    def fileno(self) -> int:
        return self._all.fileno()

    def follow(self, peer: Identity) -> None:
        """Be readable once process `peer` has ended."""
        if self._following:
            return
        self._following = True
        try:
            death = os.pidfd_open(peer.pid)
        except ProcessLookupError:
            death = os.eventfd(1, os.EFD_CLOEXEC)  # readable for ever
        self._added(death, self._opened)

    def tells_of_death(self) -> bool:
        """Whether the peer's process has ended, or is just ending."""
        return any(
            descriptor not in (self.fifo, self.event) or events & select.EPOLLHUP for descriptor, events in self._all.poll(0)
        )

    def close(self) -> None:
        self._opened.close()


def _nameless_fifo() -> int:
    """The reading side of a FIFO that nobody writes to yet; a pipe would count as hung up."""
    with tempfile.TemporaryDirectory(prefix="zcipc-") as directory:
        path = Path(directory, "doorbell")
        os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
