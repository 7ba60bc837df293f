"""The methods of a channel that are machine code: everything that needs no waiting and no complaint.

Each runs under the interpreter lock from its first look at the end to its last write, which makes it atomic for the threads of
a process. The native methods stand in front of the Python methods of `Channel` and call them for the rest; the others are
compiled functions that `Channel`, `Loan` and `Borrow` call by their entry points.
"""

import functools
from collections.abc import Callable
from typing import Any

from numba import boolean, int64, void
from numba.core.typing.templates import Signature

from zcipc import operations as ops
from zcipc import ring
from zcipc.atomics import WORD, futex_wake, load, store
from zcipc.compiled import cfunction, entry_point, jit, jit_inline, jit_nogil
from zcipc.native import (
    HANDLE_END,
    WINDOW_ADDRESS,
    WINDOW_LENGTH,
    WINDOW_POSITION,
    WINDOW_REFERENCES,
    WINDOW_VIEWS,
    Method,
    c_string,
    call_method,
    clear_error,
    data_of_bytes,
    get_buffer,
    is_bytes,
    new_bytes,
    new_none,
    py_buffer,
    release_buffer,
)
from zcipc.objects import address_of_object, any_object
from zcipc.waiting import close_bell, ring_bell, set_fenced

VIEWED, HELD_BY_OTHERS = 1, 2

_PYBUF_SIMPLE = 0
_send_bytes_name = c_string("_send_bytes")
_recv_bytes_name = c_string("_recv_bytes")


@jit
def _send_object(end, data, tag):
    """`try_send` of the bytes in the object at `data`; AGAIN if it has none, for Python to say so."""
    if is_bytes(data):
        address, length = data_of_bytes(data)
        return ops.try_send(end, address, length, tag)
    buffer = py_buffer()
    if get_buffer(data, buffer, _PYBUF_SIMPLE) != 0:
        clear_error()
        return ops.AGAIN
    result = ops.try_send(end, load(buffer), load(buffer + 2 * WORD), tag)
    release_buffer(buffer)
    return result


@cfunction(Method)
def send_bytes(self, arguments, count, keywords):
    """`Channel.send_bytes(data)`, where there is room."""
    if count == 1 and keywords == 0 and _send_object(load(self + HANDLE_END), load(arguments), 0) == ops.DONE:
        return new_none()
    return call_method(_send_bytes_name(), self, arguments, count, keywords)


@cfunction(Method)
def recv_bytes(self, arguments, count, keywords):
    """`Channel.recv_bytes()`, where a message is there within a spin."""
    end = load(self + HANDLE_END)
    if count == 0 and keywords == 0:
        header, payload = ops.peek(end)
        if payload == ops.AGAIN:
            header, payload = ops.spin_and_peek(end, load(end + ops.SPIN_NS))
        if header != 0:
            message = new_bytes(payload, ring.header_length(header))
            if message != 0:  # else no memory: the message stays in the queue
                ops.skip(end, header)
            return message
    return call_method(_recv_bytes_name(), self, arguments, count, keywords)


# --- called by their entry points: a channel or a window goes in as itself


@jit_inline
def _end_of(channel):
    return load(address_of_object(channel) + HANDLE_END)


@jit
def _send(channel, data, tag):
    return _send_object(_end_of(channel), address_of_object(data), tag)


@jit
def _open_loan(channel, window, length):
    """Claim room, remember that a loan is open and point the window there; the result of `try_claim`."""
    end, window_address = _end_of(channel), address_of_object(window)
    payload = ops.try_claim(end, length)
    if payload > 0:
        store(end + ops.LOAN, payload)
        store(window_address + WINDOW_ADDRESS, payload)
        store(window_address + WINDOW_LENGTH, length)
        store(window_address + WINDOW_POSITION, load(end + ops.PRODUCER + ring.POSITION))
        store(window_address + WINDOW_REFERENCES, load(window_address))
    return payload


@jit_inline
def _is_viewed(window_address, more):
    """Whether anybody has the window who had not when it was opened: a view, or an array that keeps it without one.

    `more` of them are expected. Opening and ending are called in the same way, and so see the same references otherwise.
    """
    references = load(window_address)  # the count is the first word of every object
    return load(window_address + WINDOW_VIEWS) != 0 or references > load(window_address + WINDOW_REFERENCES) + more


@jit
def _note_references(_channel, window, _nothing):
    """What opening does, to be called where ending will be: how many references there are is a matter of the caller."""
    store(address_of_object(window) + WINDOW_REFERENCES, load(address_of_object(window)))


@jit
def _end_loan(channel, window, tag):
    """Send what was written; False, and nothing done, if it is still viewed or the channel not open."""
    end, window_address = _end_of(channel), address_of_object(window)
    if _is_viewed(window_address, 0) or load(end + ops.STATE) != ops.OPEN:
        return False
    ops.commit(end, load(window_address + WINDOW_LENGTH), tag)
    return True


@jit
def _commit(channel, window, tag):
    ops.commit(_end_of(channel), load(address_of_object(window) + WINDOW_LENGTH), tag)


@jit
def _drop(channel, window):
    ops.drop(_end_of(channel), load(address_of_object(window) + WINDOW_LENGTH))


@jit
def _open_borrow(channel, window, spin_ns):
    """Point the window at the next message, after a spin at most, and hold it; its header, or the result of `peek`."""
    end, window_address = _end_of(channel), address_of_object(window)
    header, payload = ops.peek(end)
    if payload == ops.AGAIN and spin_ns > 0:
        header, payload = ops.spin_and_peek(end, min(spin_ns, load(end + ops.SPIN_NS)))
    if header == 0:
        return payload
    store(window_address + WINDOW_ADDRESS, payload)
    store(window_address + WINDOW_LENGTH, ring.header_length(header))
    store(window_address + WINDOW_POSITION, load(end + ops.CONSUMER + ring.POSITION))
    store(window_address + WINDOW_REFERENCES, load(window_address))
    ring.hold(end + ops.CONSUMER, header)
    store(end + ops.HELD, load(end + ops.HELD) + 1)
    return header


@jit
def _end_borrow(channel, window):
    """Give the message back, and 0; or nothing, and why: it is VIEWED, or not the only one held (HELD_BY_OTHERS)."""
    end, window_address = _end_of(channel), address_of_object(window)
    if _is_viewed(window_address, 1) or load(end + ops.STATE) != ops.OPEN:  # 1: the list of what is borrowed
        return VIEWED
    if load(end + ops.HELD) != 1:
        return HELD_BY_OTHERS
    store(end + ops.HELD, 0)
    ops.release(end, load(end + ops.CONSUMER + ring.POSITION))
    return 0


@jit
def _give_back(channel, count, first_held):
    """Of the messages held, `count` are no longer; the first that still is lies at `first_held`."""
    end = _end_of(channel)
    held = load(end + ops.HELD) - count
    store(end + ops.HELD, held)
    ops.release(end, first_held if held > 0 else load(end + ops.CONSUMER + ring.POSITION))


@jit
def _peek(channel):
    """DONE if a message is there, else the result of `peek`."""
    header, payload = ops.peek(_end_of(channel))
    return ops.DONE if header != 0 else payload


@jit
def _is_closed(channel):
    return ops.is_closed(_end_of(channel))


@jit_nogil
def _await_message(channel, limit_ns):
    ops.await_message(_end_of(channel), limit_ns)


@jit_nogil
def _await_room(channel, length, limit_ns):
    ops.await_room(_end_of(channel), length, limit_ns)


@jit
def _open_end(channel, must_fence, must_be_fenced):
    """Make the end usable. `must_fence`: this process cannot be reached by membarrier; `must_be_fenced`: it sleeps often."""
    end = _end_of(channel)
    outgoing, incoming = load(end + ops.PRODUCER + ring.CONTROL), load(end + ops.CONSUMER + ring.CONTROL)
    if must_fence:
        set_fenced(outgoing + ring.CONSUMER_BELL)
        set_fenced(incoming + ring.PRODUCER_BELL)
    if must_be_fenced:
        set_fenced(outgoing + ring.PRODUCER_BELL)
        set_fenced(incoming + ring.CONSUMER_BELL)
    store(end + ops.STATE, ops.OPEN)


@jit
def _hang_up(channel):
    """Close both own bells and wake the peer, wherever it sleeps; and wake this end's own sleepers."""
    end = _end_of(channel)
    outgoing, incoming = load(end + ops.PRODUCER + ring.CONTROL), load(end + ops.CONSUMER + ring.CONTROL)
    close_bell(outgoing + ring.PRODUCER_BELL)
    close_bell(incoming + ring.CONSUMER_BELL)
    ring_bell(outgoing + ring.CONSUMER_BELL)
    ring_bell(incoming + ring.PRODUCER_BELL)
    futex_wake(outgoing + ring.PRODUCER_BELL)
    futex_wake(incoming + ring.CONSUMER_BELL)


def _entry(function: Any, signature: Signature) -> Any:
    """The entry point, compiled or loaded when it is first wanted."""
    return functools.cached_property(lambda _: entry_point(function, signature))


class _Entries:
    """The compiled functions that the interpreter calls, past numba's dispatcher."""

    send: Callable[..., int] = _entry(_send, int64(any_object, any_object, int64))
    open_loan: Callable[..., int] = _entry(_open_loan, int64(any_object, any_object, int64))
    note_references: Callable[..., None] = _entry(_note_references, void(any_object, any_object, int64))
    end_loan: Callable[..., bool] = _entry(_end_loan, boolean(any_object, any_object, int64))
    commit: Callable[..., None] = _entry(_commit, void(any_object, any_object, int64))
    drop: Callable[..., None] = _entry(_drop, void(any_object, any_object))
    open_borrow: Callable[..., int] = _entry(_open_borrow, int64(any_object, any_object, int64))
    end_borrow: Callable[..., int] = _entry(_end_borrow, int64(any_object, any_object))
    give_back: Callable[..., None] = _entry(_give_back, void(any_object, int64, int64))
    peek: Callable[..., int] = _entry(_peek, int64(any_object))
    is_closed: Callable[..., bool] = _entry(_is_closed, boolean(any_object))
    await_message: Callable[..., None] = _entry(_await_message, void(any_object, int64))
    await_room: Callable[..., None] = _entry(_await_room, void(any_object, int64, int64))
    open_end: Callable[..., None] = _entry(_open_end, void(any_object, int64, int64))
    hang_up: Callable[..., None] = _entry(_hang_up, void(any_object))


entries = _Entries()
