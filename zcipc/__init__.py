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

from zcipc.native.importing import uncollected  # noqa: E402

with uncollected():
    from zcipc._version import __version__
    from zcipc.algorithms.waiting import Waiting
    from zcipc.broadcast import Broadcast, BroadcastStatistics, Reader, ReaderStatistics
    from zcipc.calls import messages as _messages  # noqa: F401  # what C calls is one object file: all of it has to be there
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
    from zcipc.ipc import Ipc, IpcStatistics, ipc_destroy, ipc_init, ipc_receive, ipc_send
    from zcipc.listener import Client, Listener, ListenerStatistics
    from zcipc.queues import JoinableQueue, Queue, QueueStatistics, SimpleQueue

__all__ = [
    "Broadcast", "BroadcastStatistics", "BufferTooShort", "Client", "Closed", "Connection", "CorruptSegment",
    "ForeignSegment", "InvalidSegment", "Ipc", "IpcStatistics", "JoinableQueue", "Listener", "ListenerStatistics",
    "LoanOpen", "MessageTooLarge", "NameNotFound", "NameTaken", "OutOfDescriptors", "OutOfSharedMemory", "PeerDied",
    "PermissionDenied", "PickleRefused", "Pipe", "Queue", "QueueStatistics", "Reader", "ReaderStatistics",
    "SimpleQueue", "Statistics", "TimedOut", "VersionMismatch", "Waiting", "WrongDirection", "ZcipcError", "__version__",
    "ipc_destroy", "ipc_init", "ipc_receive", "ipc_send", "wait",
]  # fmt: skip
