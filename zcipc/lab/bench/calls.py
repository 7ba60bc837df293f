"""A remote call beside an echo of the same payload over the same kind of connection, interpreted and compiled; and its peers.

The method returns its argument, so that the payload goes there and comes back in both. Compiled, a handler copies its request
to its reply, where the echo receives into an array and sends that.

The peers are what one would take instead: a proxy of `multiprocessing.managers`, and ZeroMQ's sockets for requests and replies.
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import zcipc
from zcipc import operations as ops
from zcipc import rpc
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, demand_none, own
from zcipc.lab.bench.stream import opened
from zcipc.lab.bench.there_and_back import CAPACITY, LARGE, Ask, connection_echo, measured
from zcipc.lab.harness.launch import Partner
from zcipc.native.atomics import clock

SMALL = 64  # bytes
CALL, ECHO = "call", "echo"
_PEER = "pyzmq"  # which may be missing
_RETRY_S = 0.01


def _message(size: int) -> Any:
    return bytes(size) if size == SMALL else np.arange(size // 8)


class Service:
    """What is called."""

    def echo(self, payload: object) -> object:
        return payload


# --- interpreted


def _call(size: int, samples: int, blocks: int) -> list[Measured]:
    ours, theirs = zcipc.Pipe(capacity=CAPACITY)
    return measured(
        size, partial(rpc.serve, Service(), theirs), lambda: rpc.connect(Service, ours).echo, _message(size), samples, blocks
    )


def _echo(size: int, samples: int, blocks: int) -> list[Measured]:
    return connection_echo(size, _message(size), samples, blocks)


class _Manager(BaseManager):
    """Serves objects of `Service` to proxies."""


_Manager.register("Service", Service)


def _managed(size: int, samples: int, blocks: int) -> list[Measured]:
    with tempfile.TemporaryDirectory() as directory:
        manager = _Manager(str(Path(directory, "manager")), b"secret")

        def connect() -> Ask:
            while True:
                with suppress(FileNotFoundError, ConnectionRefusedError):  # the partner does not listen yet
                    manager.connect()
                    ask: Ask = manager.Service().echo  # type: ignore[attr-defined]  # made by register()
                    return ask
                time.sleep(_RETRY_S)

        return measured(size, manager.get_server().serve_forever, connect, _message(size), samples, blocks)


def _zeromq(size: int, samples: int, blocks: int) -> list[Measured]:
    import zmq

    with tempfile.TemporaryDirectory() as directory:
        address = f"ipc://{directory}/zeromq"

        def answer() -> None:
            socket = zmq.Context().socket(zmq.REP)
            socket.bind(address)
            while True:
                socket.send_pyobj(socket.recv_pyobj(), protocol=5)

        def connect() -> Ask:
            socket = zmq.Context().socket(zmq.REQ)
            socket.connect(address)

            def ask(message: Any) -> Any:
                socket.send_pyobj(message, protocol=5)
                return socket.recv_pyobj()

            return ask

        return measured(size, answer, connect, _message(size), samples, blocks)


# --- compiled


@njit
def _copy(request, reply):
    reply[:] = request


@njit(nogil=True)
def _echo_loop(end, buffer):
    address, size = buffer.ctypes.data, buffer.nbytes
    while ops.receive(end, address, size, ops.FOREVER) == size:
        ops.send(end, address, size, ops.FOREVER)


@njit
def _call_loop(end, request, reply, rounds):
    failures, start = 0, clock()
    for number in range(rounds):
        request[0] = number
        failures += rpc.compiled_call(end, request, reply, ops.FOREVER) != reply.nbytes
        failures += reply[0] != number
    return failures, clock() - start


def _compiled(mode: str, samples: int, blocks: int) -> list[Measured]:
    ours, theirs = zcipc.Pipe(waiting=zcipc.Waiting.SPIN)
    request, reply = np.zeros(SMALL // 8), np.zeros(SMALL // 8)

    def answer() -> None:
        if mode == CALL:
            rpc.compiled_service(_copy, request=request, reply=reply).serve(theirs)
        else:
            _echo_loop(opened(theirs), request)

    Partner(answer)
    end = opened(ours)
    elapsed, failures = np.zeros(blocks + 1), 0
    _call_loop(end, request, reply, 1)  # compiles, here and there
    for block in range(blocks + 1):
        failed, took = _call_loop(end, request, reply, samples)
        failures += failed
        elapsed[block] = took / samples
    demand_none(failures, f"compiled {mode}s")
    return [Measured(SMALL, "round_trip", "ns", float(np.median(elapsed[1:])))]


def _series(effort: Effort, with_peers: bool) -> Sequence[Series]:
    interpreted = [("zcipc", CALL, _call), ("zcipc", ECHO, _echo), ("mp_manager", CALL, _managed), (_PEER, CALL, _zeromq)]
    return [
        *(
            replace(own(system, "python", mode, task, size, effort.samples, effort.blocks), optional=system == _PEER)
            for size in (SMALL, LARGE)
            for system, mode, task in interpreted
            if system == "zcipc" or with_peers
        ),
        *(
            own("zcipc_compiled", "compiled", mode, _compiled, mode, 10 * effort.samples, effort.blocks)
            for mode in (CALL, ECHO)
        ),
    ]


SCENARIO = Scenario("rpc", "a remote call of a method that returns its argument, beside an echo of the same", _series)
