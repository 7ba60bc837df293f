"""The methods of a channel that are machine code: everything that needs no waiting and no complaint.

Each runs under the interpreter lock from its first look at the end to its last write, which makes it atomic for the threads of
a process. The native methods stand in front of the Python methods of `Channel` and call them for the rest; the others are
compiled functions that `Channel`, `Loan` and `Borrow` call by their entry points.
"""

from collections.abc import Callable

from zcipc import operations as ops
from zcipc import ring
from zcipc.atomics import WORD, fence, futex_wake, load, store
from zcipc.compiled import jit, jit_inline
from zcipc.doorbell import EVENT, FIFO, find_door, forget_door
from zcipc.native import (
    HANDLE_END,
    WINDOW_ADDRESS,
    WINDOW_LENGTH,
    WINDOW_POSITION,
    WINDOW_REFERENCES,
    WINDOW_VIEWS,
    Method,
    as_it_is,
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
from zcipc.waiting import (
    WATCHED,
    close_bell,
    register_for_barrier,
    ring_bell,
    set_fenced,
    watch_for_message,
    watch_for_room,
)

VIEWED, HELD_BY_OTHERS = 1, 2
NOT_IN_QUEUE = -1  # position of a message that was too large for the queue, and was put together elsewhere

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
        if header != 0 and not ops.is_chunk(header):
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
def _send_chunk(channel, data, tag):
    end, buffer = _end_of(channel), py_buffer()
    if get_buffer(data, buffer, _PYBUF_SIMPLE) != 0:
        clear_error()
        return ops.AGAIN
    result = ops.send_chunk(end, load(buffer), load(buffer + 2 * WORD), tag)
    release_buffer(buffer)
    return result


@jit
def _end_stream(channel):
    ops.end_stream(_end_of(channel))


@jit
def _take_chunk(channel, address, size):
    return ops.take_chunk(_end_of(channel), address, size)


@jit
def _next_tag(channel):
    """Tag of the next record, or the result of `peek`."""
    header, payload = ops.peek(_end_of(channel))
    return payload if header == 0 else ring.header_tag(header)


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
    """Point the window at the next message, after a spin at most, and hold it; its header, the result of `peek`, or CHUNKED."""
    end = _end_of(channel)
    header, payload = ops.peek(end)
    if payload == ops.AGAIN and spin_ns > 0:
        header, payload = ops.spin_and_peek(end, min(spin_ns, load(end + ops.SPIN_NS)))
    if header == 0:
        return payload
    if ops.is_chunk(header):
        return ops.CHUNKED
    store(window + WINDOW_ADDRESS, payload)
    store(window + WINDOW_LENGTH, ring.header_length(header))
    store(window + WINDOW_POSITION, load(end + ops.CONSUMER + ring.POSITION))
    store(window + WINDOW_REFERENCES, load(window))
    ops.hold(end, header)
    store(end + ops.HELD, load(end + ops.HELD) + 1)
    return header


@jit
def _end_borrow(channel, window):
    """Give the message back, and 0; or nothing, and why: it is VIEWED, or not the only one held (HELD_BY_OTHERS)."""
    end = _end_of(channel)
    if _is_viewed(window, 1) or load(end + ops.STATE) != ops.OPEN:  # 1: the list of what is borrowed
        return VIEWED
    if load(window + WINDOW_POSITION) == NOT_IN_QUEUE:
        return VIEWED  # by nobody, but there is nothing to give back
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
def _recv_plain(channel):
    """The next message, if it is of tag 0 and there within a spin as `recv_bytes` does it; else None."""
    end = _end_of(channel)
    header, payload = ops.peek(end)
    if payload == ops.AGAIN:
        header, payload = ops.spin_and_peek(end, load(end + ops.SPIN_NS))
    if header == 0 or ring.header_tag(header) != 0:
        return new_none()
    message = new_bytes(payload, ring.header_length(header))
    if message != 0:
        ops.skip(end, header)
    return message


@jit
def _is_closed(channel):
    return ops.is_closed(_end_of(channel))


@jit
def _await_message(channel, limit_ns):
    end, thread = _end_of(channel), save_thread()
    ops.await_message(end, limit_ns)
    restore_thread(thread)


@jit
def _await_room(channel, length, limit_ns):
    end, thread = _end_of(channel), save_thread()
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
    where = load(outgoing + ring.CONSUMER_BELL + WATCHED)
    if where != 0:  # by a peer that could not know whom to follow: it will see that this process ends
        find_door(where, end + ops.DOORBELL)
    store(end + ops.STATE, ops.OPEN)


@jit
def _watch(channel, fifo, event, where):
    """Have a descriptor that is readable while a message is there, made of `fifo` and `event`; the peer rings at `where`."""
    end = _end_of(channel)
    doorbell = end + ops.DOORBELL
    store(doorbell + EVENT, event + 1)
    store(doorbell + FIFO, fifo + 1)
    for bell in (
        load(end + ops.CONSUMER + ring.CONTROL) + ring.CONSUMER_BELL,
        load(end + ops.PRODUCER + ring.CONTROL) + ring.PRODUCER_BELL,
    ):
        set_fenced(bell)  # a barrier at each message would cost more
        store(bell + WATCHED, where)
    fence()  # before the look at the other seat: a peer that sits down now is seen there, or sees WATCHED
    watch_for_message(end + ops.CONSUMER, doorbell)


@jit
def _watch_for_room(channel, length):
    end = _end_of(channel)
    watch_for_room(end + ops.PRODUCER, length, end + ops.DOORBELL)


@jit
def _stop_watching(channel):
    doorbell = _end_of(channel) + ops.DOORBELL
    store(doorbell + FIFO, 0)
    forget_door(doorbell)


@jit
def _hang_up(channel):
    """Close both own bells and wake the peer, wherever it sleeps; and wake this end's own sleepers."""
    end = _end_of(channel)
    outgoing, incoming = load(end + ops.PRODUCER + ring.CONTROL), load(end + ops.CONSUMER + ring.CONTROL)
    close_bell(outgoing + ring.PRODUCER_BELL)
    close_bell(incoming + ring.CONSUMER_BELL)
    ring_bell(outgoing + ring.CONSUMER_BELL, end + ops.DOORBELL, ring.NO_FLOOR)
    ring_bell(incoming + ring.PRODUCER_BELL, end + ops.DOORBELL, ring.NO_FLOOR)
    futex_wake(outgoing + ring.PRODUCER_BELL)
    futex_wake(incoming + ring.CONSUMER_BELL)


class _Entries:
    """The compiled functions that the interpreter calls, past numba's dispatcher."""

    send: Callable[..., int] = entry(_send, "OOL", new_int)
    send_chunk: Callable[..., int] = entry(_send_chunk, "OOL", new_int)
    end_stream: Callable[..., None] = entry(_end_stream, "O", no_result)
    take_chunk: Callable[..., int] = entry(_take_chunk, "OLL", new_int)
    next_tag: Callable[..., int] = entry(_next_tag, "O", new_int)
    open_loan: Callable[..., int] = entry(_open_loan, "OOL", new_int)
    note_references: Callable[..., None] = entry(_note_references, "OOL", no_result)
    end_loan: Callable[..., bool] = entry(_end_loan, "OOL", new_bool)
    drop_loan: Callable[..., bool] = entry(_drop_loan, "OOL", new_bool)
    commit: Callable[..., None] = entry(_commit, "OOL", no_result)
    drop: Callable[..., None] = entry(_drop, "OO", no_result)
    open_borrow: Callable[..., int] = entry(_open_borrow, "OOL", new_int)
    end_borrow: Callable[..., int] = entry(_end_borrow, "OO", new_int)
    give_back: Callable[..., None] = entry(_give_back, "OLL", no_result)
    peek: Callable[..., int] = entry(_peek, "O", new_int)
    recv_plain: Callable[..., bytes | None] = entry(_recv_plain, "O", as_it_is)
    is_closed: Callable[..., bool] = entry(_is_closed, "O", new_bool)
    await_message: Callable[..., None] = entry(_await_message, "OL", no_result)
    await_room: Callable[..., None] = entry(_await_room, "OLL", no_result)
    open_end: Callable[..., None] = entry(_open_end, "OLL", no_result)
    hang_up: Callable[..., None] = entry(_hang_up, "O", no_result)
    watch: Callable[..., None] = entry(_watch, "OLLL", no_result)
    watch_for_room: Callable[..., None] = entry(_watch_for_room, "OL", no_result)
    stop_watching: Callable[..., None] = entry(_stop_watching, "O", no_result)
    register_for_barrier: Callable[[], bool] = entry(register_for_barrier, "", new_bool)


entries = _Entries()
