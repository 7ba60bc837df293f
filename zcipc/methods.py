"""The methods of a channel that are machine code: everything that needs no waiting and no complaint.

Each runs under the interpreter lock from its first look at the end to its last write, which makes it atomic for the threads of
a process. The native methods stand in front of the Python methods of `Channel` and call them for the rest; the others are
compiled functions that `Channel`, `Loan` and `Borrow` call by their entry points.
"""

from collections.abc import Callable

from zcipc import operations as ops
from zcipc import ring
from zcipc.atomics import WORD, futex_wake, load, store
from zcipc.compiled import jit, jit_inline
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
    entry,
    get_buffer,
    is_bytes,
    new_bool,
    new_bytes,
    new_int,
    new_none,
    no_result,
    py_buffer,
    release_buffer,
    restore_thread,
    save_thread,
)
from zcipc.object_code import cfunction
from zcipc.waiting import close_bell, register_for_barrier, ring_bell, set_fenced

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


# --- called from Python: a channel, a window or data goes in as the address of the object


@jit_inline
def _end_of(channel):
    return load(channel + HANDLE_END)


@jit
def _send(channel, data, tag):
    return _send_object(_end_of(channel), data, tag)


@jit
def _open_loan(channel, window, length):
    """Claim room, remember that a loan is open and point the window there; the result of `try_claim`."""
    end = _end_of(channel)
    payload = ops.try_claim(end, length)
    if payload > 0:
        store(end + ops.LOAN, payload)
        store(window + WINDOW_ADDRESS, payload)
        store(window + WINDOW_LENGTH, length)
        store(window + WINDOW_POSITION, load(end + ops.PRODUCER + ring.POSITION))
        store(window + WINDOW_REFERENCES, load(window))
    return payload


@jit_inline
def _is_viewed(window, more):
    """Whether anybody has the window who had not when it was opened: a view, or an array that keeps it without one.

    `more` of them are expected. Opening and ending are called in the same way, and so see the same references otherwise.
    """
    references = load(window)  # the count is the first word of every object
    return load(window + WINDOW_VIEWS) != 0 or references > load(window + WINDOW_REFERENCES) + more


@jit
def _note_references(_channel, window, _nothing):
    """What opening does, to be called where ending will be: how many references there are is a matter of the caller."""
    store(window + WINDOW_REFERENCES, load(window))


@jit
def _end_loan(channel, window, tag):
    """Send what was written; False, and nothing done, if it is still viewed or the channel not open."""
    end = _end_of(channel)
    if _is_viewed(window, 0) or load(end + ops.STATE) != ops.OPEN:
        return False
    ops.commit(end, load(window + WINDOW_LENGTH), tag)
    return True


@jit
def _drop_loan(channel, window, _tag):
    """Give up what was written; False, and nothing done, if it is still viewed or the channel not open."""
    end = _end_of(channel)
    if _is_viewed(window, 0) or load(end + ops.STATE) != ops.OPEN:
        return False
    ops.drop(end, load(window + WINDOW_LENGTH))
    return True


@jit
def _commit(channel, window, tag):
    ops.commit(_end_of(channel), load(window + WINDOW_LENGTH), tag)


@jit
def _drop(channel, window):
    ops.drop(_end_of(channel), load(window + WINDOW_LENGTH))


@jit
def _open_borrow(channel, window, spin_ns):
    """Point the window at the next message, after a spin at most, and hold it; its header, or the result of `peek`."""
    end = _end_of(channel)
    header, payload = ops.peek(end)
    if payload == ops.AGAIN and spin_ns > 0:
        header, payload = ops.spin_and_peek(end, min(spin_ns, load(end + ops.SPIN_NS)))
    if header == 0:
        return payload
    store(window + WINDOW_ADDRESS, payload)
    store(window + WINDOW_LENGTH, ring.header_length(header))
    store(window + WINDOW_POSITION, load(end + ops.CONSUMER + ring.POSITION))
    store(window + WINDOW_REFERENCES, load(window))
    ring.hold(end + ops.CONSUMER, header)
    store(end + ops.HELD, load(end + ops.HELD) + 1)
    return header


@jit
def _end_borrow(channel, window):
    """Give the message back, and 0; or nothing, and why: it is VIEWED, or not the only one held (HELD_BY_OTHERS)."""
    end = _end_of(channel)
    if _is_viewed(window, 1) or load(end + ops.STATE) != ops.OPEN:  # 1: the list of what is borrowed
        return VIEWED
    if load(end + ops.HELD) != 1:
        return HELD_BY_OTHERS
    store(end + ops.HELD, 0)
    ops.release(end, load(end + ops.CONSUMER + ring.POSITION))
    return 0


@jit
def _give_back(channel, count, listed, first_held):
    """Of the messages held, `count` are no longer; `listed` are known to be, the first of them at `first_held`.

    More may be held: by a thread that has not listed its own yet. When it gives its own back, so is what is not given back now.
    """
    end = _end_of(channel)
    if load(end + ops.STATE) != ops.OPEN:  # closed, and maybe unmapped; or the parent's
        return
    held = load(end + ops.HELD) - count
    store(end + ops.HELD, held)
    if held == 0:
        ops.release(end, load(end + ops.CONSUMER + ring.POSITION))
    elif held == listed:
        ops.release(end, max(first_held, load(end + ops.CONSUMER + ring.KNOWN_HEAD)))


@jit
def _peek(channel):
    """DONE if a message is there, else the result of `peek`."""
    header, payload = ops.peek(_end_of(channel))
    return ops.DONE if header != 0 else payload


@jit
def _is_closed(channel):
    end = _end_of(channel)
    return load(end + ops.STATE) == ops.OPEN and ops.is_closed(end)


@jit
def _await_message(channel, limit_ns):
    end = _end_of(channel)
    if load(end + ops.STATE) == ops.OPEN:  # else another thread has closed it, and unmapped it
        thread = save_thread()
        ops.await_message(end, limit_ns)
        restore_thread(thread)


@jit
def _await_room(channel, length, limit_ns):
    end = _end_of(channel)
    if load(end + ops.STATE) == ops.OPEN:
        thread = save_thread()
        ops.await_room(end, length, limit_ns)
        restore_thread(thread)


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
def _close(channel, shared):
    """Close the end, once; and both own bells, unless it is another process's: wake the peer and this end's own sleepers."""
    end = _end_of(channel)
    state = load(end + ops.STATE)
    store(end + ops.STATE, ops.SHUT)
    if state == ops.OPEN or (state == ops.FRESH and not shared):
        _hang_up(end)


@jit
def _hang_up(end):
    """Close both own bells and wake the peer, wherever it sleeps; and wake this end's own sleepers."""
    outgoing, incoming = load(end + ops.PRODUCER + ring.CONTROL), load(end + ops.CONSUMER + ring.CONTROL)
    close_bell(outgoing + ring.PRODUCER_BELL)
    close_bell(incoming + ring.CONSUMER_BELL)
    ring_bell(outgoing + ring.CONSUMER_BELL)
    ring_bell(incoming + ring.PRODUCER_BELL)
    futex_wake(outgoing + ring.PRODUCER_BELL)
    futex_wake(incoming + ring.CONSUMER_BELL)


class _Entries:
    """The compiled functions that the interpreter calls, past numba's dispatcher."""

    send: Callable[..., int] = entry(_send, "OOL", new_int)
    open_loan: Callable[..., int] = entry(_open_loan, "OOL", new_int)
    note_references: Callable[..., None] = entry(_note_references, "OOL", no_result)
    end_loan: Callable[..., bool] = entry(_end_loan, "OOL", new_bool)
    drop_loan: Callable[..., bool] = entry(_drop_loan, "OOL", new_bool)
    commit: Callable[..., None] = entry(_commit, "OOL", no_result)
    drop: Callable[..., None] = entry(_drop, "OO", no_result)
    open_borrow: Callable[..., int] = entry(_open_borrow, "OOL", new_int)
    end_borrow: Callable[..., int] = entry(_end_borrow, "OO", new_int)
    give_back: Callable[..., None] = entry(_give_back, "OLLL", no_result)
    peek: Callable[..., int] = entry(_peek, "O", new_int)
    is_closed: Callable[..., bool] = entry(_is_closed, "O", new_bool)
    await_message: Callable[..., None] = entry(_await_message, "OL", no_result)
    await_room: Callable[..., None] = entry(_await_room, "OLL", no_result)
    open_end: Callable[..., None] = entry(_open_end, "OLL", no_result)
    close: Callable[..., None] = entry(_close, "OL", no_result)
    register_for_barrier: Callable[[], bool] = entry(register_for_barrier, "", new_bool)


entries = _Entries()
