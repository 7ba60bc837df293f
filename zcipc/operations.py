"""What one end of a connection can do, in compiled code: the fast path of `Connection`, and the face for your own `@njit`.

An *end* is the address of a block of private words: its producer side, its consumer side, and how it is used. Take it from
`connection.end` and pass it to a jitted function; the connection must stay open meanwhile.

    @njit
    def echo(end, buffer, rounds):
        for _ in range(rounds):
            length = receive(end, buffer.ctypes.data, buffer.nbytes, FOREVER)
            send(end, buffer.ctypes.data, length, FOREVER)

Results below zero say why nothing happened: AGAIN, CORRUPT, PEER_CLOSED, PEER_DIED, NOT_OPEN, LOANED, TOO_LARGE.
"""

from zcipc import ring
from zcipc.atomics import WORD, clock, load, memcpy, store
from zcipc.compiled import jit
from zcipc.objects import address_of, as_object, bytes_from_address, length_of
from zcipc.peer import has_ended
from zcipc.ring import (
    CAPACITY,
    CONSUMER_BELL,
    CONTROL,
    LENGTH_BITS,
    LENGTH_MASK,
    LINE,
    NOTHING,
    POSITION,
    PRODUCER_BELL,
    release_until,
)
from zcipc.waiting import (
    CLOSED,
    Waiting,
    ring_bell,
    sleep_for_message,
    sleep_for_room,
    spin_for_message,
    spin_for_room,
)

# An end: offsets in its block.
PRODUCER = 0
CONSUMER = ring.SIDE_BYTES
STATE = 2 * LINE
LOAN = STATE + WORD  # payload address of the record being written in place, or 0
SPIN_NS = STATE + 2 * WORD
PEER_SEAT = STATE + 3 * WORD  # address of the peer's seat in shared memory; its first word is the pid, 0 while it is free
END_WORDS = 3 * LINE // WORD

# States of an end.
OPEN = 0
FRESH = 1  # its seat is not taken yet
SHUT = 2  # closed here
FORKED = 3  # the seat is the parent's

# Results.
DONE = 0
AGAIN = -2
PEER_CLOSED = -3
PEER_DIED = -4
NOT_OPEN = -5
LOANED = -6
TOO_LARGE = -7

FOREVER = (1 << 63) - 1
SHORT_SPIN_NS = Waiting.HYBRID.value  # no spin under the interpreter lock is longer
SLICE_NS = 50_000_000  # a sleep ends at least this often to look for the peer's death, a time-out, Ctrl-C


@jit
def header_length(header):
    return (header & LENGTH_MASK) - 1


@jit
def header_tag(header):
    return header >> LENGTH_BITS


@jit
def try_claim(end, length):
    """Payload address of room for `length` bytes, or AGAIN, CORRUPT, NOT_OPEN, LOANED, PEER_CLOSED. Never waits.

    PEER_CLOSED is for what nobody can receive any more, and so is looked for before publishing and not after: a peer may well
    receive a message, and close, before its sender looks again.
    """
    if load(end + STATE) != OPEN:
        return NOT_OPEN
    if load(end + LOAN) != 0:
        return LOANED
    if load(load(end + PRODUCER + CONTROL) + CONSUMER_BELL) == CLOSED:
        return PEER_CLOSED
    payload = ring.claim(end + PRODUCER, length)
    return AGAIN if payload == NOTHING else payload


@jit
def commit(end, length, tag):
    """Publish what was claimed and wake the other end."""
    store(end + LOAN, 0)
    ring.commit(end + PRODUCER, length, tag)
    ring_bell(load(end + PRODUCER + CONTROL) + CONSUMER_BELL)


@jit
def drop(end, length):
    """Give up what was claimed, leaving its bytes alone: somebody may still write there."""
    store(end + LOAN, 0)
    ring.commit_gap(end + PRODUCER, length)
    ring_bell(load(end + PRODUCER + CONTROL) + CONSUMER_BELL)


@jit
def try_send(end, address, length, tag):
    """Copy a message in and publish it; DONE, PEER_CLOSED, AGAIN, CORRUPT, NOT_OPEN, LOANED. Never waits."""
    payload = try_claim(end, length)
    if payload < 0:
        return payload
    memcpy(payload, address, length)
    commit(end, length, tag)
    return DONE


@jit
def try_send_buffer(end, buffer, tag):
    """`try_send` of a Python object with the buffer interface."""
    return try_send(end, address_of(buffer), length_of(buffer), tag)


@jit
def peek(end):
    """Header and payload address of the next message; (0, why not) if there is none. Spins as the end's waiting allows."""
    if load(end + STATE) != OPEN:
        return 0, NOT_OPEN
    consumer = end + CONSUMER
    header, payload = ring.peek(consumer)
    if payload == NOTHING:
        spin_for_message(consumer, min(load(end + SPIN_NS), SHORT_SPIN_NS))
        header, payload = ring.peek(consumer)
    return header, (AGAIN if payload == NOTHING else payload)


@jit
def skip(end, header):
    """Go past the message under `header` and wake a producer that waits for its room."""
    ring.skip(end + CONSUMER, header)
    ring_bell(load(end + CONSUMER + CONTROL) + PRODUCER_BELL)


@jit
def hold(end, header):
    """Go past the message under `header`, keep its bytes; the position to hand to `release` when they are no longer needed."""
    ring.hold(end + CONSUMER, header)
    return load(end + CONSUMER + POSITION)


@jit
def release(end, position):
    """Give everything before `position` back to the producer and wake it."""
    release_until(end + CONSUMER, position)
    ring_bell(load(end + CONSUMER + CONTROL) + PRODUCER_BELL)


@jit
def receive_bytes(end):
    """The next message as a new `bytes`, or None if there is none yet. Holds the interpreter lock."""
    header, payload = peek(end)
    if header == 0:
        return as_object(0)
    message = bytes_from_address(payload, header_length(header))
    if message == 0:
        return as_object(-1)  # no memory: the message stays in the queue
    skip(end, header)
    return as_object(message)


@jit
def await_room(end, length, limit_ns):
    """Until room for `length` bytes may be there, the peer closes, or `limit_ns` have passed: the long wait, after the spin."""
    if load(end + SPIN_NS) > limit_ns:
        spin_for_room(end + PRODUCER, length, limit_ns)
    else:
        sleep_for_room(end + PRODUCER, length, limit_ns)


@jit
def await_message(end, limit_ns):
    """Until a message may be there, the peer closes, or `limit_ns` have passed: the long wait, after the spin."""
    if load(end + SPIN_NS) > limit_ns:
        spin_for_message(end + CONSUMER, limit_ns)
    else:
        sleep_for_message(end + CONSUMER, limit_ns)


@jit
def claim(end, length, timeout_ns):
    """Wait for room and claim it; its address, or a result below zero (AGAIN: timed out)."""
    producer = end + PRODUCER
    if length < 0 or length > ring.max_message(load(producer + CAPACITY)):
        return TOO_LARGE
    payload = try_claim(end, length)
    if payload != AGAIN:
        return payload
    spin_for_room(producer, length, min(load(end + SPIN_NS), SHORT_SPIN_NS))
    start = clock()
    while True:
        payload = try_claim(end, length)
        left = timeout_ns - (clock() - start)
        if payload != AGAIN or left <= 0:
            return payload
        if has_ended(load(load(end + PEER_SEAT))):
            return PEER_DIED
        await_room(end, length, min(left, SLICE_NS))


@jit
def send(end, address, length, timeout_ns):
    """Wait for room, copy a message in, publish it; DONE or a result below zero (AGAIN: timed out)."""
    payload = claim(end, length, timeout_ns)
    if payload < 0:
        return payload
    memcpy(payload, address, length)
    commit(end, length, 0)
    return DONE


@jit
def borrow(end, timeout_ns):
    """Wait for the next message; its header and payload address, or (0, result below zero). End it with `skip`."""
    header, payload = peek(end)
    if payload != AGAIN:
        return header, payload
    control = load(end + CONSUMER + CONTROL)
    start = clock()
    while True:
        closed = load(control + PRODUCER_BELL) == CLOSED  # looked at before the queue: what was sent before is received first
        ended = not closed and has_ended(load(load(end + PEER_SEAT)))
        header, payload = ring.peek(end + CONSUMER)
        if payload != NOTHING:
            return header, payload
        left = timeout_ns - (clock() - start)
        if closed or ended or left <= 0:
            return 0, (PEER_CLOSED if closed else PEER_DIED if ended else AGAIN)
        await_message(end, min(left, SLICE_NS))


@jit
def receive(end, address, size, timeout_ns):
    """Wait for a message and copy it to `address`; its length, or a result below zero. One longer than `size` is not taken."""
    header, payload = borrow(end, timeout_ns)
    if header == 0:
        return payload
    length = header_length(header)
    if length > size:
        return TOO_LARGE
    memcpy(address, payload, length)
    skip(end, header)
    return length
