"""What the experiments send: every 8-byte word of a message holds the same stamp, so a torn or mixed-up message shows.

The stamp is the number of the message, or the time at which it was meant to be sent.
"""

from collections.abc import Callable

import numpy as np
from numba import boolean, carray, int64, void

from zcipc.native.compiled import entry_point, jit
from zcipc.native.objects import address_of, length_of, pointer, readable_buffer, writable_buffer

WORD = 8  # bytes; the length of a message is a multiple of it


@jit
def words(address, length):
    """The `length` bytes at `address` as an array of words: plain memory, which the compiler may read and write by vectors."""
    return carray(pointer(address), (length // WORD,), np.int64)


@jit
def fill(address, length, stamp):
    """Write a message."""
    words(address, length)[:] = stamp


@jit
def is_whole(address, length, stamp):
    """Read all of a message; whether every word of it is `stamp`."""
    difference = 0
    for word in words(address, length):
        difference |= word ^ stamp
    return difference == 0


@jit
def stamp_of(address):
    """The stamp of a message, as its first word says."""
    return words(address, WORD)[0]


@jit
def _fill_buffer(buffer, stamp):
    fill(address_of(buffer), length_of(buffer), stamp)


@jit
def _is_whole_buffer(buffer, stamp):
    return is_whole(address_of(buffer), length_of(buffer), stamp)


@jit
def _stamp_of_buffer(buffer):
    return stamp_of(address_of(buffer))


# The same for the interpreted loops: one compiled call a message for each side of every transport.
fill_buffer: Callable[..., None] = entry_point(_fill_buffer, void(writable_buffer, int64))
is_whole_buffer: Callable[..., bool] = entry_point(_is_whole_buffer, boolean(readable_buffer, int64))
stamp_of_buffer: Callable[..., int] = entry_point(_stamp_of_buffer, int64(readable_buffer))
