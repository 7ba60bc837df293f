"""The methods of a channel that are machine code: everything that needs no waiting and no complaint.

Each runs under the interpreter lock from its first look at the end to its last write, which makes it atomic for the threads of
a process. The native methods stand in front of the Python methods of `Channel`, `Loan` and `Borrow`, and call them if need be;
the others are compiled functions that Python calls by their entry points.

A spare loan or borrow waits in a slot of its channel, and goes back there when its block has ended.
"""

from collections.abc import Callable

from zcipc import operations as ops
from zcipc.algorithms import ring
from zcipc.algorithms.doorbell import EVENT, FIFO, find_door, forget_door
from zcipc.algorithms.waiting import (
    WATCHED,
    close_bell,
    register_for_barrier,
    ring_bell,
    set_fenced,
    watch_for_message,
    watch_for_room,
)
from zcipc.native.atomics import WORD, fence, futex_wake, load, memcpy, store
from zcipc.native.compiled import jit, jit_inline
from zcipc.native.extension import (
    BLOCK_LENGTH,
    BLOCK_SLOTS,
    BLOCK_TAG,
    HANDLE_END,
    HANDLE_SLOTS,
    WINDOW_ADDRESS,
    WINDOW_LENGTH,
    WINDOW_POSITION,
    Method,
    as_it_is,
    c_string,
    call_method,
    clear_error,
    clear_slot,
    close_view,
    closed_views,
    data_of_bytes,
    drop_reference,
    entry,
    get_buffer,
    has_other_owners,
    is_bytes,
    is_only_view,
    length_from,
    new_bool,
    new_bytes,
    new_int,
    new_none,
    new_reference,
    no_result,
    none,
    open_view,
    py_buffer,
    references,
    release_buffer,
    restore_thread,
    save_thread,
    set_slot,
)
from zcipc.native.object_code import cfunction

VIEWED, HELD_BY_OTHERS = 1, 2
NOT_IN_QUEUE = -1  # position of a message that was too large for the queue, and was put together elsewhere

_PYBUF_SIMPLE = 0
_PYBUF_ANY_CONTIGUOUS = 0x80 | 0x10 | 0x08  # in one row, whatever the order of its dimensions
_MOST_COPIED = 2 << 20  # bytes, under the interpreter lock: as long as a spin
_send_bytes_name, _recv_bytes_name = c_string("_send_bytes"), c_string("_recv_bytes")
_loan_name, _borrow_name = c_string("_loan"), c_string("_borrow")
_enter_name, _exit_name = c_string("_enter"), c_string("_exit")

# Slots: offsets in the object. They lie behind the words of the base class, in the order of their names.
CHANNEL_READING, CHANNEL_SPARE_BORROW, CHANNEL_SPARE_LOAN = (HANDLE_SLOTS + place * WORD for place in range(3))
BLOCK_BUFFER, BLOCK_CHANNEL, BLOCK_LAST_BUFFER, BLOCK_TIMEOUT, BLOCK_WINDOW = (BLOCK_SLOTS + place * WORD for place in range(5))


@jit_inline
def end_of(channel):
    return load(channel + HANDLE_END)


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
    if count == 1 and keywords == 0 and _send_object(end_of(self), load(arguments), 0) == ops.DONE:
        return new_none()
    return call_method(_send_bytes_name(), self, arguments, count, keywords)


@cfunction(Method)
def recv_bytes(self, arguments, count, keywords):
    """`Channel.recv_bytes()`, where a message is there within a spin."""
    if count == 0 and keywords == 0:
        header, payload = peek_patiently(self)
        if header != 0 and not ops.is_chunk(header):
            message = new_bytes(payload, ring.header_length(header))
            if message != 0:  # else no memory: the message stays in the queue
                ops.skip(end_of(self), header)
            return message
    return call_method(_recv_bytes_name(), self, arguments, count, keywords)


# --- called from Python: a channel, a window or data goes in as the address of the object


@jit
def _send(channel, data, tag):
    return _send_object(end_of(channel), data, tag)


@jit
def _send_frame(channel, head, start, data, tail, tag):
    """`try_send` of the `bytes` at `head`, of what is in the object at `data` from byte `start` on, and the `bytes` at `tail`.

    AGAIN if that does not lie in one row, or copying it would keep other threads waiting.
    """
    end, buffer = end_of(channel), py_buffer()
    if get_buffer(data, buffer, _PYBUF_ANY_CONTIGUOUS) != 0:
        clear_error()
        return ops.AGAIN
    address, length = load(buffer), load(buffer + 2 * WORD)
    tail_address, tail_length = data_of_bytes(tail)
    size = start + length + tail_length
    payload = ops.AGAIN if length > _MOST_COPIED else ops.try_claim(end, size)
    if payload > 0:
        head_address, head_length = data_of_bytes(head)
        memcpy(payload, head_address, head_length)
        memcpy(payload + start, address, length)
        memcpy(payload + start + length, tail_address, tail_length)
        ops.commit(end, size, tag)
    release_buffer(buffer)
    return min(payload, ops.DONE)


@jit
def _send_chunk(channel, data, tag):
    end, buffer = end_of(channel), py_buffer()
    if get_buffer(data, buffer, _PYBUF_SIMPLE) != 0:
        clear_error()
        return ops.AGAIN
    result = ops.send_chunk(end, load(buffer), load(buffer + 2 * WORD), tag)
    release_buffer(buffer)
    return result


@jit
def _end_stream(channel):
    ops.end_stream(end_of(channel))


@jit
def _take_chunk(channel, address, size):
    return ops.take_chunk(end_of(channel), address, size)


@jit
def _next_tag(channel):
    """Tag of the next record, or the result of `peek`."""
    header, payload = ops.peek(end_of(channel))
    return payload if header == 0 else ring.header_tag(header)


@jit
def _open_loan(loan):
    """Claim room for a loan, remember that one is open and point its window there; the result of `try_claim`."""
    end = end_of(load(loan + BLOCK_CHANNEL))
    length = load(loan + BLOCK_LENGTH)
    if length < 0 or length > ring.max_message(load(end + ops.PRODUCER + ring.CAPACITY)):
        return ops.TOO_LARGE
    payload = ops.try_claim(end, length)
    if payload > 0:
        store(end + ops.LOAN, payload)
        _point(load(loan + BLOCK_WINDOW), payload, length, load(end + ops.PRODUCER + ring.POSITION))
    return payload


@jit_inline
def _point(window, address, length, position):
    store(window + WINDOW_ADDRESS, address)
    store(window + WINDOW_LENGTH, length)
    store(window + WINDOW_POSITION, position)


@jit
def _show(block):
    """A new reference to a `memoryview` of the block's window; 0 with an exception set if there is no memory.

    It serves again when its block is over. Of two, because in a loop the name of the last one still holds it.
    """
    window, view, last = load(block + BLOCK_WINDOW), load(block + BLOCK_BUFFER), load(block + BLOCK_LAST_BUFFER)
    if view == 0 or has_other_owners(view):
        view, last = last, view
        if view == 0 or has_other_owners(view):
            drop_reference(view)
            drop_reference(last)
            view, last = closed_views(window)
        store(block + BLOCK_BUFFER, view)
        store(block + BLOCK_LAST_BUFFER, last)
        if view == 0:
            return 0
    open_view(view, load(window + WINDOW_ADDRESS), load(window + WINDOW_LENGTH))
    return new_reference(view)


@jit
def _reopen(block):
    """Open the buffer of a block that is over, with nothing in it: it can be released for good."""
    open_view(load(block + BLOCK_BUFFER), load(load(block + BLOCK_WINDOW) + WINDOW_ADDRESS), 0)


@jit_inline
def _is_viewed(block, known):
    """Whether anybody looks at a block's window beyond its buffer: through views of that, or arrays that hold the window.

    `known` is how many references to it there are else.
    """
    view = load(block + BLOCK_BUFFER)
    return view == 0 or not is_only_view(view) or references(load(block + BLOCK_WINDOW)) > known


@jit
def _end_loan(loan, drop):
    """Send what was written, or give it up; False, and nothing done, if it is viewed or the channel not open."""
    channel, window = load(loan + BLOCK_CHANNEL), load(loan + BLOCK_WINDOW)
    end = end_of(channel)
    if _is_viewed(loan, 2) or load(end + ops.STATE) != ops.OPEN:  # 2: the loan, and the buffer of its views
        return False
    close_view(load(loan + BLOCK_BUFFER))
    if drop:
        ops.drop(end, load(window + WINDOW_LENGTH))
    else:
        ops.commit(end, load(window + WINDOW_LENGTH), load(loan + BLOCK_TAG))
    _spare(loan, channel, CHANNEL_SPARE_LOAN)
    return True


@jit_inline
def _spare(block, channel, slot):
    set_slot(channel, slot, block)
    clear_slot(block, BLOCK_CHANNEL)


@jit
def _commit(channel, window, tag):
    ops.commit(end_of(channel), load(window + WINDOW_LENGTH), tag)


@jit
def _drop(channel, window):
    ops.drop(end_of(channel), load(window + WINDOW_LENGTH))


@jit
def _open_borrow(borrow):
    """Point the window at the next message and hold it; its header, the result of `peek`, or CHUNKED.

    If no other message is held, the channel notes the window as the one that is read.
    """
    channel, window = load(borrow + BLOCK_CHANNEL), load(borrow + BLOCK_WINDOW)
    end = end_of(channel)
    header, payload = ops.peek(end)
    if header == 0:
        return payload
    if ops.is_chunk(header):
        return ops.CHUNKED
    _point(window, payload, ring.header_length(header), load(end + ops.CONSUMER + ring.POSITION))
    ops.hold(end, header)
    held = load(end + ops.HELD)
    store(end + ops.HELD, held + 1)
    store(borrow + BLOCK_TAG, ring.header_tag(header))
    if held == 0:
        set_slot(channel, CHANNEL_READING, window)
    return header


@jit
def _end_borrow(borrow):
    """Give the message back, and 0; or do nothing and say why: it is VIEWED, or not the only one held."""
    channel, window = load(borrow + BLOCK_CHANNEL), load(borrow + BLOCK_WINDOW)
    end = end_of(channel)
    # 3: the borrow, the buffer of its views, and the channel that notes what is read
    if _is_viewed(borrow, 3) or load(end + ops.STATE) != ops.OPEN:
        return VIEWED
    if load(window + WINDOW_POSITION) == NOT_IN_QUEUE:
        return VIEWED  # by nobody, but there is nothing to give back
    if load(channel + CHANNEL_READING) != window or load(end + ops.HELD) != 1:
        return HELD_BY_OTHERS
    close_view(load(borrow + BLOCK_BUFFER))
    _release_only(channel)
    _spare(borrow, channel, CHANNEL_SPARE_BORROW)
    return 0


@jit
def _release_only(channel):
    """Give the only message held back."""
    end = end_of(channel)
    set_slot(channel, CHANNEL_READING, none())
    store(end + ops.HELD, 0)
    ops.release(end, load(end + ops.CONSUMER + ring.POSITION))


@jit
def _give_back(channel, count, listed, first_held):
    """Of the messages held, `count` are no longer; `listed` are known to be, the first of them at `first_held`.

    More may be held: by a thread that has not listed its own yet. When it gives its own back, so is what is not given back now.
    """
    end = end_of(channel)
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
    header, payload = ops.peek(end_of(channel))
    return ops.DONE if header != 0 else payload


@jit
def _is_closed(channel):
    end = end_of(channel)
    return load(end + ops.STATE) == ops.OPEN and ops.is_closed(end)


@jit
def _count_sleepers(channel, more):
    """So many threads more, or fewer, use the shared memory without the interpreter lock."""
    sleepers = end_of(channel) + ops.SLEEPERS
    store(sleepers, load(sleepers) + more)


@jit
def _await_message(channel, waited_ns, limit_ns):
    end, ended = end_of(channel), False
    if load(end + ops.STATE) == ops.OPEN:  # else another thread has closed it, and unmapped it
        _count_sleepers(channel, 1)
        thread = save_thread()
        ended = ops.await_message(end, waited_ns, limit_ns)
        restore_thread(thread)
        _count_sleepers(channel, -1)
    return ended


@jit
def _await_room(channel, length, waited_ns, limit_ns):
    end, ended = end_of(channel), False
    if load(end + ops.STATE) == ops.OPEN:
        _count_sleepers(channel, 1)
        thread = save_thread()
        ended = ops.await_room(end, length, waited_ns, limit_ns)
        restore_thread(thread)
        _count_sleepers(channel, -1)
    return ended


@jit
def peek_patiently(channel):
    """`peek` after a spin under the interpreter lock and one wait without it; what else may have happened, Python finds out.

    Where a message is long in coming, or large, the way through Python would come after its arrival.
    """
    end = end_of(channel)
    header, payload = ops.peek(end)
    if payload == ops.AGAIN:
        header, payload = ops.spin_and_peek(end, load(end + ops.SPIN_NS))
        if payload == ops.AGAIN and load(end + ops.PEER_ENDED) == 0:
            new_reference(channel)  # whoever lent it to us may let it go while other threads run
            store(end + ops.PEER_ENDED, _await_message(channel, 0, ops.SLICE_NS))
            header, payload = ops.peek(end)
            drop_reference(channel)
    return header, payload


@jit
def _open_end(channel, must_fence, must_be_fenced):
    """Make the end usable. `must_fence`: this process cannot be reached by membarrier; `must_be_fenced`: it sleeps often."""
    end = end_of(channel)
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
    end = end_of(channel)
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
    end = end_of(channel)
    watch_for_room(end + ops.PRODUCER, length, end + ops.DOORBELL)


@jit
def _stop_watching(channel):
    doorbell = end_of(channel) + ops.DOORBELL
    store(doorbell + FIFO, 0)
    forget_door(doorbell)


@jit
def _close(channel, shared):
    """Close the end, once; and both own bells, unless it is another process's: wake the peer and this end's own sleepers."""
    end = end_of(channel)
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
    ring_bell(outgoing + ring.CONSUMER_BELL, end + ops.DOORBELL, ring.NO_FLOOR)
    ring_bell(incoming + ring.PRODUCER_BELL, end + ops.DOORBELL, ring.NO_FLOOR)
    futex_wake(outgoing + ring.PRODUCER_BELL)
    futex_wake(incoming + ring.CONSUMER_BELL)


# --- the methods of blocks, in machine code


@jit_inline
def _prepared(channel, slot, length):
    """The spare loan or borrow of a channel, for a message of `length` bytes, as a new reference; 0 if there is none."""
    block = load(channel + slot)
    if block == none() or references(block) != 1:  # somebody still has one whose block has ended
        return 0
    store(channel + slot, new_none())
    store(block + BLOCK_CHANNEL, new_reference(channel))
    store(block + BLOCK_LENGTH, length)
    store(block + BLOCK_TAG, 0)
    set_slot(block, BLOCK_TIMEOUT, none())
    return block


@cfunction(Method)
def loan(self, arguments, count, keywords):
    """`Channel.loan(nbytes)`, where one is spare."""
    if count == 1 and keywords == 0:
        length = length_from(load(arguments))
        made = _prepared(self, CHANNEL_SPARE_LOAN, length) if length >= 0 else 0
        if made != 0:
            return made
    return call_method(_loan_name(), self, arguments, count, keywords)


@cfunction(Method)
def borrow(self, arguments, count, keywords):
    """`Channel.borrow()`, where one is spare."""
    made = _prepared(self, CHANNEL_SPARE_BORROW, 0) if count == 0 and keywords == 0 else 0
    return made if made != 0 else call_method(_borrow_name(), self, arguments, count, keywords)


@cfunction(Method)
def enter_loan(self, arguments, count, keywords):
    """`Loan.__enter__()`, where there is room."""
    channel = load(self + BLOCK_CHANNEL)
    if count == 0 and channel != 0 and _open_loan(self) > 0:
        view = _show(self)
        if view == 0:
            _drop(channel, load(self + BLOCK_WINDOW))
        return view
    return call_method(_enter_name(), self, arguments, count, keywords)


@cfunction(Method)
def exit_loan(self, arguments, count, keywords):
    """`Loan.__exit__(None, None, None)`, where nobody looks any more."""
    if count == 3 and load(arguments) == none() and load(self + BLOCK_CHANNEL) != 0 and _end_loan(self, 0):
        return new_none()
    return call_method(_exit_name(), self, arguments, count, keywords)


@cfunction(Method)
def enter_borrow(self, arguments, count, keywords):
    """`Borrow.__enter__()`, where a message is there within a spin and no other is held."""
    channel = load(self + BLOCK_CHANNEL)
    if count == 0 and channel != 0:
        if load(self + BLOCK_TIMEOUT) == none():
            peek_patiently(channel)
            if load(self + BLOCK_CHANNEL) != channel or load(self + BLOCK_WINDOW) == 0:  # another thread has ended the block
                return call_method(_enter_name(), self, arguments, count, keywords)
        if load(end_of(channel) + ops.HELD) == 0 and _open_borrow(self) > 0:
            view = _show(self)
            if view == 0:
                _release_only(channel)
            return view
    return call_method(_enter_name(), self, arguments, count, keywords)


@cfunction(Method)
def exit_borrow(self, arguments, count, keywords):
    """`Borrow.__exit__(...)`, where nobody looks any more and no other message is held."""
    if load(self + BLOCK_CHANNEL) != 0 and _end_borrow(self) == 0:
        return new_none()
    return call_method(_exit_name(), self, arguments, count, keywords)


class _Entries:
    """The compiled functions that the interpreter calls, past numba's dispatcher."""

    send: Callable[..., int] = entry(_send, "OOL", new_int)
    send_frame: Callable[..., int] = entry(_send_frame, "OOLOOL", new_int)
    send_chunk: Callable[..., int] = entry(_send_chunk, "OOL", new_int)
    end_stream: Callable[..., None] = entry(_end_stream, "O", no_result)
    take_chunk: Callable[..., int] = entry(_take_chunk, "OLL", new_int)
    next_tag: Callable[..., int] = entry(_next_tag, "O", new_int)
    open_loan: Callable[..., int] = entry(_open_loan, "O", new_int)
    end_loan: Callable[..., bool] = entry(_end_loan, "OL", new_bool)
    commit: Callable[..., None] = entry(_commit, "OOL", no_result)
    drop: Callable[..., None] = entry(_drop, "OO", no_result)
    show: Callable[..., memoryview] = entry(_show, "O", as_it_is)
    reopen: Callable[..., None] = entry(_reopen, "O", no_result)
    open_borrow: Callable[..., int] = entry(_open_borrow, "O", new_int)
    end_borrow: Callable[..., int] = entry(_end_borrow, "O", new_int)
    give_back: Callable[..., None] = entry(_give_back, "OLLL", no_result)
    peek: Callable[..., int] = entry(_peek, "O", new_int)
    is_closed: Callable[..., bool] = entry(_is_closed, "O", new_bool)
    count_sleepers: Callable[..., None] = entry(_count_sleepers, "OL", no_result)
    await_message: Callable[..., bool] = entry(_await_message, "OLL", new_bool)
    await_room: Callable[..., bool] = entry(_await_room, "OLLL", new_bool)
    open_end: Callable[..., None] = entry(_open_end, "OLL", no_result)
    close: Callable[..., None] = entry(_close, "OL", no_result)
    watch: Callable[..., None] = entry(_watch, "OLLL", no_result)
    watch_for_room: Callable[..., None] = entry(_watch_for_room, "OL", no_result)
    stop_watching: Callable[..., None] = entry(_stop_watching, "O", no_result)
    register_for_barrier: Callable[[], bool] = entry(register_for_barrier, "", new_bool)


entries: _Entries = _Entries()
