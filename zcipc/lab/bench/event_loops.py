"""Messages there and back between two event loops, awaited: `zcipc.aio` beside the streams of asyncio over a socket pair."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import zcipc
from zcipc import aio
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, WrongMessage, own
from zcipc.lab.bench.there_and_back import CAPACITY, LARGE, answered_by, rounds

SMALL = 64  # bytes
_UVLOOP = "uvloop"  # which may be missing

_Send = Callable[[bytes], Awaitable[None]]
_Receive = Callable[[], Awaitable[bytes]]


def _loops(name: str) -> Any:
    if name == _UVLOOP:
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


async def _zcipc(end: Any, _size: int) -> tuple[_Send, _Receive]:
    connection = aio.Connection(end)
    return connection.send_bytes, connection.recv_bytes


async def _streams(end: Any, size: int) -> tuple[_Send, _Receive]:
    reader, writer = await asyncio.open_unix_connection(sock=end, limit=2 * LARGE)

    async def send(message: bytes) -> None:
        writer.write(message)
        await writer.drain()

    return send, lambda: reader.readexactly(size)


_SYSTEMS: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "zcipc": (_zcipc, lambda: zcipc.Pipe(capacity=CAPACITY)),
    "asyncio_streams": (_streams, socket.socketpair),
}


def _round_trip(system: str, loop: str, size: int, samples: int, blocks: int) -> list[Measured]:
    connect, pair = _SYSTEMS[system]
    ours, theirs = pair()
    count, message = rounds(size, samples), bytes(size)

    async def answer() -> None:
        send, receive = await connect(theirs, size)
        while True:
            await send(await receive())

    async def ask() -> list[float]:
        send, receive = await connect(ours, size)
        elapsed = []
        for _ in range(blocks + 1):
            start = asyncio.get_running_loop().time()
            for _ in range(count):
                await send(message)
                back = await receive()
            elapsed.append((asyncio.get_running_loop().time() - start) / count * 1e9)
        if back != message:
            raise WrongMessage(f"a message of {size:,} bytes came back as another one")
        return elapsed[1:]

    def run(task: Callable[[], Any]) -> Any:
        with asyncio.Runner(loop_factory=_loops(loop)) as runner:
            return runner.run(task())

    answered_by(lambda: run(answer))
    return [Measured(size, "round_trip", "ns", float(np.median(run(ask))))]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    return [
        replace(
            own(system, "python", loop, _round_trip, system, loop, size, effort.samples, effort.blocks),
            optional=loop == _UVLOOP,
        )
        for loop in ("asyncio", _UVLOOP)
        for size in (SMALL, LARGE)
        for system in _SYSTEMS
    ]


SCENARIO = Scenario("asyncio", "messages between two event loops, there and back, awaited", _series)
