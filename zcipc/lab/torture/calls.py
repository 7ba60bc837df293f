"""Remote calls: clients are killed, and the server goes on with the others; then it is killed, and no call waits for it.

The survivor is a client too, of which every answer is checked: a blocking one, or one of an event loop, as the server.
"""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

from zcipc import Client, Closed, Listener, Pipe, aio, rpc
from zcipc.lab.torture.messages import SHORTEST, content, in_some_form, sealed
from zcipc.lab.torture.processes import NOTICE_S, PATIENCE_S, Victim, eventually, nothing_left
from zcipc.lab.torture.tally import Tally

_SERVERS = 3  # a round
_CLIENTS = 3  # that die, for each
_CALLS = 20  # of the survivor, after each death
_IN_FLIGHT = 4
_LONGEST = 10_000  # bytes
_LONGEST_LIFE_S = 0.01


class _Service:
    def echo(self, form: Any) -> Any:
        return form

    def nap(self, seconds: float) -> None:
        time.sleep(seconds)

    def descriptors(self) -> int:
        return len(list(Path("/proc/self/fd").iterdir()))


def calls(random: Random) -> Tally:
    """One round: servers and clients of every kind."""
    tally = Tally()
    with Pipe()[0] as end:
        end.poll()  # loads the library's machine code, which all victims then have
    for _ in range(_SERVERS):
        name = f"torture/{os.getpid()}/{random.getrandbits(64)}"
        serve, survivor = random.choice(_SERVING), random.choice(_SURVIVORS)
        step = f"{survivor.__name__} calls {serve.__name__} {name}"
        with nothing_left(tally, step), Victim(partial(serve, name)) as server:
            _torment(server, survivor(name), name, random, tally, step)
    return tally


# --- the server


def _one_by_one(name: str) -> None:
    with Listener(name) as listener:
        rpc.serve(_Service(), listener)


def _with_workers(name: str) -> None:
    with Listener(name) as listener:
        rpc.serve(_Service(), listener, workers=2)


def _in_a_loop(name: str) -> None:
    with Listener(name) as listener:
        asyncio.run(aio.serve(_Service(), listener))


_SERVING = (_one_by_one, _with_workers, _in_a_loop)


# --- the clients


def _call_for_ever(name: str, random: Random) -> None:
    """The victim."""
    service = rpc.connect(_Service, name, timeout=PATIENCE_S)
    while True:
        under_way = [rpc.start(service.echo, _form(random)) for _ in range(random.randint(1, _IN_FLIGHT))]
        for call in under_way:
            call.result(PATIENCE_S)


class _Survivor(Protocol):
    def __init__(self, name: str) -> None: ...

    def echo(self, form: Any) -> Any: ...

    def descriptors(self) -> int: ...

    def outcomes(self, kill: Callable[[], None]) -> list[Any]:
        """What became of calls that were in flight during a `kill()`, and of one after it: results, or exceptions."""
        ...

    def close(self) -> None: ...


class _Blocking:
    def __init__(self, name: str) -> None:
        self._service = rpc.connect(_Service, name, timeout=PATIENCE_S)
        self.echo, self.descriptors = self._service.echo, self._service.descriptors

    def outcomes(self, kill: Callable[[], None]) -> list[Any]:
        under_way = [rpc.start(self._service.nap, PATIENCE_S) for _ in range(_IN_FLIGHT)]
        kill()
        return [_outcome(call.result) for call in under_way] + [_outcome(self.descriptors)]

    def close(self) -> None:
        rpc.disconnect(self._service)


class _Loop:
    def __init__(self, name: str) -> None:
        self._runner = asyncio.Runner()
        self._service = self._runner.run(self._connect(name))

    async def _connect(self, name: str) -> Any:
        return await aio.connect(_Service, aio.Connection(Client(name, timeout=PATIENCE_S)))

    def _run(self, method: Callable[..., Any], *args: Any) -> Any:
        return self._runner.run(asyncio.wait_for(method(*args), PATIENCE_S))

    def echo(self, form: Any) -> Any:
        return self._run(self._service.echo, form)

    def descriptors(self) -> int:
        return int(self._run(self._service.descriptors))

    def outcomes(self, kill: Callable[[], None]) -> list[Any]:
        async def gather() -> list[Any]:
            under_way = [asyncio.create_task(self._service.nap(PATIENCE_S)) for _ in range(_IN_FLIGHT)]
            await asyncio.sleep(0)  # they are sent
            kill()
            return await asyncio.gather(*under_way, return_exceptions=True)

        return [*self._run(gather), _outcome(self.descriptors)]

    def close(self) -> None:
        async def close() -> None:
            aio.disconnect(self._service)

        self._runner.run(close())
        self._runner.close()


_SURVIVORS: tuple[type[_Survivor], ...] = (_Blocking, _Loop)


# --- the deaths


def _torment(server: Victim, survivor: _Survivor, name: str, random: Random, tally: Tally, step: str) -> None:
    _call(survivor, random, tally, step)
    before = survivor.descriptors()
    for _ in range(_CLIENTS):
        with Victim(partial(_call_for_ever, name, Random(random.getrandbits(32)))) as client:
            time.sleep(random.uniform(0, _LONGEST_LIFE_S))
            _call(survivor, random, tally, step)
            client.kill()
        tally.kills += 1
        _call(survivor, random, tally, f"after the death of a client, {step}")
    if not eventually(lambda: survivor.descriptors() <= before):
        tally.fault("leaks", f"descriptors of the server, {step}")
    start = time.monotonic()
    outcomes = survivor.outcomes(server.kill)
    tally.kills += 1
    took = time.monotonic() - start
    tally.fault("hangs", f"calls ended {took:.3f} s after the death of the server, {step}", int(took > NOTICE_S))
    unclear = [one for one in outcomes if not isinstance(one, Closed)]
    tally.fault("crashes", f"after the death of the server calls ended with {unclear}, {step}", len(unclear))
    del outcomes, unclear
    gc.collect()  # an exception and the frames that it came through hold each other, and views of the memory
    survivor.close()


def _call(survivor: _Survivor, random: Random, tally: Tally, step: str) -> None:
    """The survivor's calls, one after the other: answered in time, and each with its own answer."""
    for _ in range(_CALLS):
        form = _form(random)
        start = time.monotonic()
        answer = survivor.echo(form)
        took = time.monotonic() - start
        tally.messages += 1
        tally.fault("hangs", f"answered after {took:.3f} s, {step}", int(took > NOTICE_S))
        tally.fault("torn", f"another answer, {step}", int(content(answer) != content(form)))


def _form(random: Random) -> Any:
    return in_some_form(sealed(random.getrandbits(32), random.randint(SHORTEST, random.choice((64, 512, _LONGEST)))), random)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error
