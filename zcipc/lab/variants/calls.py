"""How the interpreter calls compiled code: the entry point of the right specialisation, or numba's dispatcher."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import int64
from numba.core.typing.templates import Signature

from zcipc import operations as ops
from zcipc.lab.harness.payload import fill_buffer, is_whole_buffer, stamp_of_buffer
from zcipc.lab.transports import base
from zcipc.lab.transports.ring import Copying
from zcipc.native.compiled import entry_point

_SEND = _RECEIVE = int64(int64, int64, int64, int64)
_CLAIM = int64(int64, int64)


class CallingEnd(base.InterpretedEnd):
    """One compiled call a message, whose arguments are integers: all that a dispatcher has to look at."""

    def __init__(self, end: int, length: int, send: Callable[..., int], receive: Callable[..., int]) -> None:
        self._message = np.zeros(length, np.uint8)
        self._arguments = (end, self._message.ctypes.data, length, ops.FOREVER)
        self._send = send
        self._receive = receive

    def send(self, stamp: int) -> None:
        fill_buffer(self._message, stamp)
        self._send(*self._arguments)

    def receive(self, stamp: int) -> bool:
        self._receive(*self._arguments)
        return is_whole_buffer(self._message, stamp)

    def receive_stamp(self) -> int:
        self._receive(*self._arguments)
        stamp = stamp_of_buffer(self._message)
        return stamp if is_whole_buffer(self._message, stamp) else -1


class EntryPoint(Copying):
    """Past the dispatcher, as `zcipc.ends.channel` calls."""

    def _callable(self, dispatcher: Any, signature: Signature) -> Callable[..., int]:
        return entry_point(dispatcher, signature)

    def interpreted_end(self, index: int) -> CallingEnd:
        send, receive = self._callable(ops.send, _SEND), self._callable(ops.receive, _RECEIVE)
        return CallingEnd(self._end(index), self.length, send, receive)

    def claim(self, index: int) -> tuple[Callable[..., int], int]:
        """A call that does next to nothing and may be repeated, to be made with the end returned beside it and a length."""
        return self._callable(ops.try_claim, _CLAIM), self._end(index)


class Dispatcher(EntryPoint):
    """As anybody calls a jitted function."""

    def _callable(self, dispatcher: Any, signature: Signature) -> Callable[..., int]:
        dispatcher.compile(signature)
        called: Callable[..., int] = dispatcher
        return called
