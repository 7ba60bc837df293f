# pyright: strict, reportUnnecessaryTypeIgnoreComment=error
"""What type checkers make of a user's program. Never run: `test_typing.py` has mypy and pyright read it, both strictly.

A line with an `ignore` must be an error to both, or they complain that the comment is for nothing.
"""

import asyncio
import multiprocessing
import queue
import socket
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Literal, Protocol, assert_type

import numpy as np
from numpy.typing import NDArray

import zcipc
from zcipc import aio, rpc

Array = NDArray[np.float64]


def pipes() -> None:
    left, right = zcipc.Pipe(duplex=False, capacity=1 << 16, waiting=zcipc.Waiting.BLOCK, allow_pickle=False)
    assert_type(left, zcipc.Connection)
    assert_type(left, zcipc.Connection[Any, Any])
    left.send({"any": "object"}, timeout=1)
    assert_type(right.recv(timeout=1), Any)
    left.send_bytes(b"0123", 1, 2, timeout=1.0)
    left.send_bytes(np.zeros(3))
    assert_type(right.recv_bytes(10, timeout=0.5), bytes)
    assert_type(right.recv_bytes_into(bytearray(4), 1), int)
    assert_type(right.poll(0.1), bool)
    assert_type((left.closed, left.readable, left.writable, left.capacity, left.fileno(), left.end), tuple[
        bool, bool, bool, int, int, int,
    ])  # fmt: skip
    with left, left.loan(8, timeout=1) as room:
        assert_type(room, memoryview)
        room[:] = bytes(8)
    with right.borrow() as buffer:
        assert_type(buffer, memoryview)
    assert_type(zcipc.wait([left, right], timeout=1), list[zcipc.Connection])
    multiprocessing.Process(target=pipes, args=(left,)).start()
    left.send(object(), 1)  # type: ignore[call-arg]
    left.send_bytes("text")  # type: ignore[arg-type]
    zcipc.Pipe(waiting="block")  # type: ignore[arg-type]


def asks_and_is_answered(end: zcipc.Connection[str, int]) -> None:
    end.send("how many")
    assert_type(end.recv(), int)
    with end.borrow_object(timeout=1) as answer:
        assert_type(answer, int)
    end.send(1)  # type: ignore[arg-type]


def takes_less(end: zcipc.Connection[str | bytes, bool]) -> None:
    asks_and_is_answered(end)  # it sends more and receives less than it must
    ours, _ = zcipc.Pipe()
    takes_less(ours)


def statistics(
    end: zcipc.Connection, items: zcipc.Queue, sender: zcipc.Broadcast, listener: zcipc.Listener, ipc: zcipc.Ipc, files: "Files"
) -> None:
    found = end.statistics()
    assert_type(found, zcipc.Statistics)
    assert_type((found.messages_sent, found.peer_pid, found.waiting), tuple[int, int | None, zcipc.Waiting])
    assert_type(items.statistics(), zcipc.QueueStatistics)
    assert_type(sender.statistics(), zcipc.BroadcastStatistics)
    assert_type(sender.readers[0].statistics(), zcipc.ReaderStatistics)
    assert_type(listener.statistics(), zcipc.ListenerStatistics)
    assert_type(ipc.statistics(), zcipc.IpcStatistics)
    assert_type(rpc.statistics(files), rpc.CallStatistics)
    found.messages_sent = 0  # type: ignore[misc]


def names() -> None:
    with zcipc.Listener("camera", authkey=b"secret") as listener:
        assert_type((listener.address, listener.last_accepted, listener.closed), tuple[str, int | None, bool])
        assert_type(listener.accept(timeout=1), zcipc.Connection)
    with zcipc.Client("camera", authkey=b"secret", timeout=1) as end:
        assert_type(end, zcipc.Connection)
    zcipc.Client(("localhost", 80))  # type: ignore[arg-type]


def waiting(end: zcipc.Connection, beside: socket.socket) -> None:
    ready = zcipc.wait([end, beside, 3])
    for one in ready:
        assert isinstance(one, zcipc.Connection | socket.socket | int)
    assert_type(zcipc.wait({beside}), list[socket.socket])


def queues() -> None:
    anything = zcipc.Queue()
    assert_type(anything, zcipc.Queue[Any])
    numbers: zcipc.Queue[int] = zcipc.Queue(10, capacity=1 << 20, waiting=zcipc.Waiting.SPIN)
    numbers.put(1, timeout=1)
    numbers.put_nowait(2)
    numbers.put_many([3, 4], block=False)
    assert_type(numbers.get(True, 1.0), int)
    assert_type(numbers.get_nowait(), int)
    assert_type(numbers.get_many(max_messages_to_get=5), list[int])
    assert_type((numbers.qsize(), numbers.empty(), numbers.full(), numbers.is_closed()), tuple[int, bool, bool, bool])
    jobs = zcipc.JoinableQueue[str]()
    assert_type(jobs.get(), str)
    jobs.task_done()
    jobs.join()
    simple: zcipc.SimpleQueue[bytes] = zcipc.SimpleQueue()
    simple.put(b"")
    in_json: zcipc.Queue[dict[str, int]] = zcipc.Queue(loads=lambda data: {"bytes": len(data)}, dumps=str.encode)
    in_json.close()
    numbers.put("three")  # type: ignore[arg-type]
    zcipc.Queue("ten")  # type: ignore[arg-type]


def broadcasts(slow: Literal["block", "drop", "disconnect"]) -> None:
    with zcipc.Broadcast[Array](readers=2, slow=slow) as sender:
        first, *_ = sender.readers
        assert_type(first, zcipc.Reader[Array])
        sender.send(np.zeros(3), timeout=1)
        assert_type(first.recv(timeout=1), Array)
        assert_type(first.missed, int)
    zcipc.Broadcast(2, slow="wait")  # type: ignore[arg-type]


class Files(Protocol):
    def size(self, path: str) -> int: ...
    @rpc.in_place
    def read(self, path: str, offset: int = 0) -> Array: ...
    @rpc.one_way
    def forget(self, path: str) -> None: ...


class Plain:
    def size(self, path: str) -> int:
        return len(path)


def ping(text: str) -> str:
    return text


def calls(end: zcipc.Connection) -> None:
    files = rpc.connect(Files, "files", timeout=1)
    assert_type(files, Files)
    assert_type(files.size("data"), int)
    assert_type(files.read("data", offset=1), Array)
    assert_type(rpc.connect(Plain, end), Plain)
    assert_type(rpc.connect({ping}, end), Any)
    call = rpc.start(files.size, "data")
    assert_type(call, rpc.Call[int])
    assert_type((call.result(timeout=1), call.done()), tuple[int, bool])
    call.cancel()
    rpc.disconnect(files)
    files.size(1)  # type: ignore[arg-type]
    rpc.start(files.size, 1)  # type: ignore[arg-type]
    rpc.connect("files", Files)  # type: ignore[call-overload]


def service(end: zcipc.Connection, handler: Callable[[Array, Array], None]) -> None:
    rpc.serve(Plain(), zcipc.Listener("files"), workers=2)
    rpc.serve({"ping": ping}, end)
    rpc.compiled_service(handler, request=np.empty(8), reply=np.empty(1)).serve(end)


class AwaitedFiles(Protocol):
    async def size(self, path: str) -> int: ...


async def awaited(end: zcipc.Connection[str, int]) -> None:
    async with aio.Connection(end) as connection:
        assert_type(connection, aio.Connection[str, int])
        await connection.send("how many")
        assert_type(await connection.recv(), int)
        await connection.send_bytes(np.zeros(3))
        assert_type(await connection.recv_bytes(), bytes)
        async with connection.borrow() as buffer:
            assert_type(buffer, memoryview)
        async for message in connection:
            assert_type(message, int)
        await connection.send(1)  # type: ignore[arg-type]
    files: AwaitedFiles = await aio.connect(Files, "files")
    assert_type(await files.size("data"), int)
    aio.disconnect(files)
    await aio.serve(Plain(), zcipc.Listener("files"))


def the_paper() -> None:
    ipc = zcipc.ipc_init(1, 2, slots=4, slot_bytes=64)
    assert_type(ipc, zcipc.Ipc)
    zcipc.ipc_send(ipc, b"message", timeout=1)
    assert_type(zcipc.ipc_receive(ipc), memoryview)
    assert_type((ipc.slots, ipc.slot_bytes, ipc.message_buffer), tuple[int, int, bytearray])
    zcipc.ipc_destroy(ipc)


def errors(end: zcipc.Connection) -> None:
    """Each is what the standard library raises for the same."""
    eof: EOFError = zcipc.Closed()
    broken: BrokenPipeError = zcipc.PeerDied()
    late: TimeoutError = zcipc.TimedOut()
    denied: PermissionError = zcipc.PermissionDenied()
    memory: MemoryError = zcipc.OutOfSharedMemory()
    short: multiprocessing.BufferTooShort = zcipc.BufferTooShort()
    every: list[zcipc.ZcipcError] = [
        zcipc.Closed(), zcipc.PeerDied(), zcipc.TimedOut(), zcipc.PermissionDenied(), zcipc.OutOfSharedMemory(),
        zcipc.BufferTooShort(), zcipc.CorruptSegment(), zcipc.ForeignSegment(), zcipc.VersionMismatch(), zcipc.LoanOpen(),
        zcipc.MessageTooLarge(), zcipc.NameNotFound(), zcipc.NameTaken(), zcipc.OutOfDescriptors(), zcipc.PickleRefused(),
        zcipc.WrongDirection(), rpc.RemoteError(), rpc.SignatureMismatch(),
    ]  # fmt: skip
    print(eof, broken, late, denied, memory, short, every)
    try:
        end.recv()
    except (zcipc.InvalidSegment, CancelledError, multiprocessing.AuthenticationError, queue.Empty, queue.Full) as error:
        print(error)
    wrong: EOFError = zcipc.TimedOut()  # type: ignore[assignment]
    print(wrong)


if __name__ == "__main__":
    asyncio.run(awaited(zcipc.Pipe()[0]))
