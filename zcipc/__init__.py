"""Zero-copy messages and arrays between processes, through lock-free queues in shared memory.

    left, right = zcipc.Pipe()                       # ends go to multiprocessing.Process(args=...)
    left.send({"any": "object", "a": array})         # right.recv()
    with left.loan(nbytes) as buffer: ...            # write in place, sent when the block ends
    with right.borrow() as buffer: ...               # read in place, released when the block ends

    items = zcipc.Queue()                            # put and get, for any number of producers and consumers

Unrelated processes meet by name: `Listener("camera").accept()` and `Client("camera")`. The calls of the paper that this package
reproduces are `ipc_init`, `ipc_send`, `ipc_receive` and `ipc_destroy`. For use inside your own `@njit` functions see
`zcipc.operations`; for the experiments, `zcipc.lab` and the command `zcipc`.
"""

from zcipc.native.membarrier import register_while_alone

register_while_alone()  # before numba comes, and with it threads

from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from zcipc.native.importing import uncollected  # noqa: E402

with uncollected():
    from zcipc._version import __version__
    from zcipc.algorithms.waiting import Waiting
    from zcipc.connection import Connection, Pipe, wait
    from zcipc.ends.end import Statistics
    from zcipc.errors import (
        BufferTooShort,
        Closed,
        CorruptSegment,
        ForeignSegment,
        InvalidSegment,
        LoanOpen,
        MessageTooLarge,
        NameNotFound,
        NameTaken,
        OutOfDescriptors,
        OutOfSharedMemory,
        PeerDied,
        PermissionDenied,
        PickleRefused,
        TimedOut,
        VersionMismatch,
        WrongDirection,
        ZcipcError,
    )

if TYPE_CHECKING:
    from zcipc.broadcast import Broadcast, BroadcastStatistics, Reader, ReaderStatistics
    from zcipc.ipc import Ipc, IpcStatistics, ipc_destroy, ipc_init, ipc_receive, ipc_send
    from zcipc.listener import Client, Listener, ListenerStatistics
    from zcipc.queues import JoinableQueue, Queue, QueueStatistics, SimpleQueue

# What a pipe does not need is imported when it is first named: with it, this import would take half as long again.
_LATER = {
    "zcipc.broadcast": ("Broadcast", "BroadcastStatistics", "Reader", "ReaderStatistics"),
    "zcipc.ipc": ("Ipc", "IpcStatistics", "ipc_destroy", "ipc_init", "ipc_receive", "ipc_send"),
    "zcipc.listener": ("Client", "Listener", "ListenerStatistics"),
    "zcipc.queues": ("JoinableQueue", "Queue", "QueueStatistics", "SimpleQueue"),
}
_HOMES = {name: module for module, names in _LATER.items() for name in names}

__all__ = [
    "Broadcast", "BroadcastStatistics", "BufferTooShort", "Client", "Closed", "Connection", "CorruptSegment",
    "ForeignSegment", "InvalidSegment", "Ipc", "IpcStatistics", "JoinableQueue", "Listener", "ListenerStatistics",
    "LoanOpen", "MessageTooLarge", "NameNotFound", "NameTaken", "OutOfDescriptors", "OutOfSharedMemory", "PeerDied",
    "PermissionDenied", "PickleRefused", "Pipe", "Queue", "QueueStatistics", "Reader", "ReaderStatistics",
    "SimpleQueue", "Statistics", "TimedOut", "VersionMismatch", "Waiting", "WrongDirection", "ZcipcError", "__version__",
    "ipc_destroy", "ipc_init", "ipc_receive", "ipc_send", "wait",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with uncollected():
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
