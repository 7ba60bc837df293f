"""Small messages of calls, in machine code: each is written where it will be read, and only its content is copied out.

A message is its content and, behind it, a tail: the number of the call; what the message says of it; and whether the content is
bytes that are no pickle. Unpickling does not look behind a pickle.
"""

import struct
from collections.abc import Callable

from zcipc import operations as ops
from zcipc.algorithms import ring
from zcipc.codec import PLAIN
from zcipc.ends.methods import end_of, peek_patiently
from zcipc.native.atomics import WORD, load, memcpy, store
from zcipc.native.compiled import jit
from zcipc.native.extension import (
    as_it_is,
    data_of_bytes,
    entry,
    new_bytes,
    new_int,
    new_none,
    new_tuple,
    stack_words,
)

TAIL = struct.Struct("<qii")  # as two words here: the second holds what is said, and above it whether the content is bytes
TAIL_BYTES = TAIL.size
_LOWER_HALF = 0xFFFF_FFFF
_tail = stack_words(2)


@jit
def _send(channel, content, number, what, is_plain):
    """`try_send` of the `bytes` at `content` with a tail."""
    end = end_of(channel)
    address, length = data_of_bytes(content)
    payload = ops.try_claim(end, length + TAIL_BYTES)
    if payload < 0:
        return payload
    tail = _tail()
    store(tail, number)
    store(tail + WORD, is_plain << 32 | what & _LOWER_HALF)
    memcpy(payload, address, length)
    memcpy(payload + length, tail, TAIL_BYTES)
    ops.commit(end, length + TAIL_BYTES, PLAIN)
    return ops.DONE


@jit
def _receive(channel):
    """Number, what is said, whether the content is plain, and the content of the next message, or None.

    It has to be of tag PLAIN, with a tail, and there within a spin as in `recv_bytes`.
    """
    header, payload = peek_patiently(channel)
    length = ring.header_length(header) - TAIL_BYTES
    if header == 0 or length < 0 or ring.header_tag(header) != PLAIN:
        return new_none()
    tail = _tail()
    memcpy(tail, payload + length, TAIL_BYTES)
    said = load(tail + WORD)
    what = (said & _LOWER_HALF ^ 1 << 31) - (1 << 31)  # with its sign
    message = new_tuple((new_int(load(tail)), new_int(what), new_int(said >> 32), new_bytes(payload, length)))
    if message != 0:  # else no memory: the message stays in the queue
        ops.skip(end_of(channel), header)
    return message


class _Entries:
    send: Callable[..., int] = entry(_send, "OOLLL", new_int)
    receive: Callable[..., tuple[int, int, int, bytes] | None] = entry(_receive, "O", as_it_is)


entries: _Entries = _Entries()
