"""Calls between compiled loops: a request and a reply of fixed size, each written and read where it lies.

@njit
def handler(request, reply):
    reply[0] = request.sum()

service = compiled_service(handler, request=np.empty(8), reply=np.empty(1))
service.serve(connection)                         # one process; the loop is compiled and holds no interpreter lock
connection.poll()                                 # the other: takes its seat; then, inside @njit, with end = connection.end
compiled_call(end, request, reply, timeout_ns)    # from plain Python: send_bytes, recv_bytes
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit

from zcipc import operations as ops
from zcipc.algorithms.ring import header_length
from zcipc.connection import Connection
from zcipc.ends.methods import entries
from zcipc.native.compiled import jit
from zcipc.native.objects import pointer

_WRONG_SIZE = -100


@jit
def compiled_call(end, request, reply, timeout_ns):
    """Send the array `request`, wait for the answer and copy it into the array `reply`; its bytes, or a result below zero.

    TOO_LARGE if the answer is longer than `reply`; AGAIN if it did not come within `timeout_ns`, and the connection is then of
    no more use for calls, because it may still come.
    """
    result = ops.send(end, request.ctypes.data, request.nbytes, timeout_ns)
    if result != ops.DONE:
        return result
    return ops.receive(end, reply.ctypes.data, reply.nbytes, timeout_ns)


class CompiledService:
    """See `compiled_service`."""

    def __init__(self, loop: Callable[[int, int], int], request_bytes: int) -> None:
        self.loop = loop
        self._request_bytes = request_bytes

    def __repr__(self) -> str:
        return f"<CompiledService of requests of {self._request_bytes:,} bytes>"

    def serve(self, connection: Connection) -> None:
        """Answer until the other end closes or dies; then, or if this raises, the connection is closed.

        Raises:
            ValueError: a request has another size.
            MessageTooLarge, CorruptSegment: as for every message.
        """
        with connection:
            connection._require_open()
            result = ops.AGAIN
            while result == ops.AGAIN:  # every slice: here a signal is noticed
                entries.count_sleepers(connection, 1)
                try:
                    result = self.loop(connection.end, ops.SLICE_NS)
                finally:
                    entries.count_sleepers(connection, -1)
            if result == _WRONG_SIZE:
                raise ValueError(f"a request on {connection!r} has not the {self._request_bytes:,} bytes of this service's")
            if result not in (ops.PEER_CLOSED, ops.PEER_DIED):
                connection._check(result)


def compiled_service(
    handler: Callable[[Any, Any], None], *, request: np.ndarray[Any, Any], reply: np.ndarray[Any, Any]
) -> CompiledService:
    """A server whose loop is compiled around `handler(request, reply)`, a jitted function that writes its answer to `reply`.

    Args:
        request, reply: arrays of the shape and dtype that messages have; their content does not matter. The handler gets such
            arrays over the messages themselves.

    The `loop(end, idle_ns)` of the result may be called from other compiled code: it returns AGAIN when nothing came for
    `idle_ns`, or the result below zero that ended it.
    """
    request_shape, request_dtype, request_bytes = request.shape, request.dtype, request.nbytes
    reply_shape, reply_dtype, reply_bytes = reply.shape, reply.dtype, reply.nbytes

    @njit(nogil=True, error_model="numpy")
    def loop(end, idle_ns):
        while True:
            header, payload = ops.borrow(end, idle_ns)
            if header == 0:
                return payload
            if header_length(header) != request_bytes:
                return _WRONG_SIZE
            room = ops.claim(end, reply_bytes, ops.FOREVER)
            if room < 0:
                return room
            handler(carray(pointer(payload), request_shape, request_dtype), carray(pointer(room), reply_shape, reply_dtype))
            ops.skip(end, header)
            ops.commit(end, reply_bytes, 0)

    return CompiledService(loop, request_bytes)
