"""The queues that a survivor and its victim are connected by, in one form."""

import os
from typing import Any, Protocol, Self

from zcipc import Connection, Ipc, Pipe, Waiting, ipc_destroy, ipc_init, ipc_receive, ipc_send
from zcipc.algorithms.seats import seated
from zcipc.lab.torture.processes import PATIENCE_S, eventually

CAPACITY = 4096  # bytes; as small as a queue can be, so that the end of a lap is near
_SLOTS, _SLOT_BYTES = 4, 512


class Queue(Protocol):
    """Made by the survivor before it forks the victim, which then asks for its own end."""

    name: str

    @property
    def queue(self) -> Any:
        """What the library's calls are made with."""
        ...

    @property
    def memory(self) -> memoryview:
        """All that both can see."""
        ...

    def meet(self, victim: int) -> None:
        """The survivor's part of being connected with the process of this number."""
        ...

    def has_met(self) -> bool:
        """Whether the victim came so far as to be the survivor's peer."""
        ...

    def victims_end(self) -> "Queue": ...

    def send(self, message: bytes) -> None: ...

    def receive(self) -> bytes: ...

    def close(self) -> None: ...


class Channel:
    """A connection."""

    def __init__(self, waiting: Waiting) -> None:
        self.queue: Connection
        self._theirs: Connection
        self.queue, self._theirs = Pipe(capacity=CAPACITY, waiting=waiting)
        self.name = self.queue._segment.name
        self.queue.poll()  # its seat is taken here, and not in the victim

    @property
    def memory(self) -> memoryview:
        return self.queue._segment.buffer

    def meet(self, victim: int) -> None:
        self._theirs.close()

    def has_met(self) -> bool:
        return seated(self.queue._segment, 1) is not None

    def victims_end(self) -> Self:
        self.queue = self._theirs
        return self

    def send(self, message: bytes) -> None:
        self.queue.send_bytes(message, timeout=PATIENCE_S)

    def receive(self) -> bytes:
        return self.queue.recv_bytes(timeout=PATIENCE_S)

    def close(self) -> None:
        self.queue.close()


class Semaphores:
    """The paper's queue."""

    def __init__(self, _waiting: Waiting) -> None:
        self._survivor = os.getpid()

    @property
    def memory(self) -> memoryview:
        return self.queue._segment.buffer

    def meet(self, victim: int) -> None:
        self.queue: Ipc = ipc_init(self._survivor, victim, slots=_SLOTS, slot_bytes=_SLOT_BYTES)
        self.name = self.queue._segment.name
        eventually(self.has_met)

    def has_met(self) -> bool:
        return all(seated(self.queue._segment, index) for index in (0, 1))

    def victims_end(self) -> Self:
        self.queue = ipc_init(self._survivor, os.getpid(), slots=_SLOTS, slot_bytes=_SLOT_BYTES)
        return self

    def send(self, message: bytes) -> None:
        ipc_send(self.queue, message, timeout=PATIENCE_S)

    def receive(self) -> bytes:
        return bytes(ipc_receive(self.queue, timeout=PATIENCE_S))

    def close(self) -> None:
        ipc_destroy(self.queue)
