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

from zcipc.algorithms import ring, seats
from zcipc.algorithms.doorbell import DOORBELL_BYTES
from zcipc.algorithms.ring import (
    CAPACITY,
    CONSUMER_BELL,
    CONTROL,
    COUNT,
    GAP,
    LINE,
    NO_FLOOR,
    NOTHING,
    POSITION,
    PRODUCER_BELL,
    header_length,
    release_until,
)
from zcipc.algorithms.waiting import (
    CLOSED,
    Waiting,
    ring_bell,
    sleep_for_message,
    sleep_for_room,
    spin_for_message,
    spin_for_room,
    watch_for_message,
)
from zcipc.memory.peer import has_ended
from zcipc.native.atomics import WORD, clock, compiler_fence, load, load_acquire, memcpy, store
from zcipc.native.compiled import jit, jit_inline

# An end: offsets in its block.
PRODUCER = 0
CONSUMER = ring.SIDE_BYTES
STATE = 2 * LINE
LOAN = STATE + WORD  # payload address of the record being written in place, or 0; below zero, why nobody may send
SPIN_NS = STATE + 2 * WORD
PEER_SEAT = STATE + 3 * WORD  # address of the peer's seat in shared memory; its first word is the pid, 0 while it is free
HELD = STATE + 4 * WORD  # messages that are being read in place
NAMESPACE = STATE + 5 * WORD  # of this process's pid; in another one the peer's number says nothing
DOORBELL = STATE + 6 * WORD  # see doorbell.py; its first word is 0 while the end is not watched
SLEEPERS = DOORBELL + DOORBELL_BYTES  # threads that wait without the interpreter lock: the memory must stay mapped
PEER_ENDED = SLEEPERS + WORD  # 1 if the last wait for a message found that the peer's process seems to have ended
END_WORDS = 3 * LINE // WORD

# States of an end.
OPEN = 0
FRESH = 1  # its seat is not taken yet
SHUT = 2  # closed here
FORKED = 3  # the seat is the parent's

# Why nobody may send.
STREAMING = -1  # a message larger than the queue is under way
READ_ONLY = -2  # the connection has one direction

# Tags of the records that together are one message larger than the queue; the message's own tag is in the first.
FIRST_CHUNK = 0x7000
CHUNK = 0x7001

# Results.
DONE = 0
AGAIN = -2
PEER_CLOSED = -3
PEER_DIED = -4
NOT_OPEN = -5
LOANED = -6
TOO_LARGE = -7
CHUNKED = -8  # the next record is part of a message larger than the queue

SHORT_SPIN_NS = Waiting.HYBRID.value  # no spin under the interpreter lock is longer
FOREVER = (1 << 63) - 1
SLICE_NS = 200_000_000  # a wait in the interpreter ends at least this often to look for Ctrl-C
# Between two looks whether the peer lives. Not below the kernel's tick: a timer of 1 ms, set in hardware at each sleep, made a
# round trip between sleepers a third longer, and one of 4 ms no longer than one of 50.
SHORTEST_PAUSE_NS, LONGEST_PAUSE_NS = 4_000_000, 25_000_000
_RUNG, _ENDED = -1, -2  # what ended a wait


# --- without waiting


@jit_inline
def ring_consumer(end):
    """Wake the other end if it waits for a message, after a commit."""
    ring_bell(load(end + PRODUCER + CONTROL) + CONSUMER_BELL, end + DOORBELL, load(end + PRODUCER + POSITION))


@jit_inline
def ring_producer(end):
    """Wake the other end if it waits for room, after a release."""
    ring_bell(load(end + CONSUMER + CONTROL) + PRODUCER_BELL, end + DOORBELL, NO_FLOOR)


@jit_inline
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
    return _claim_anew(end, length) if payload == NOTHING else payload


@jit
def _claim_anew(end, length):
    position = load(end + PRODUCER + POSITION)
    payload = ring.claim_anew(end + PRODUCER, length)
    if load(end + PRODUCER + POSITION) != position:  # a gap was published, and a consumer asleep must wake to pass it
        ring_consumer(end)
    return AGAIN if payload == NOTHING else payload


@jit_inline
def commit(end, length, tag):
    """Publish what was claimed and wake the other end."""
    store(end + LOAN, 0)
    ring.commit(end + PRODUCER, length, tag)
    ring_consumer(end)


@jit
def drop(end, length):
    """Give up what was claimed, leaving its bytes alone: somebody may still write there."""
    store(end + LOAN, 0)
    ring.commit_gap(end + PRODUCER, length)
    ring_consumer(end)


@jit_inline
def try_send(end, address, length, tag):
    """Copy a message in and publish it; DONE, PEER_CLOSED, AGAIN, CORRUPT, NOT_OPEN, LOANED. Never waits."""
    payload = try_claim(end, length)
    if payload < 0:
        return payload
    memcpy(payload, address, length)
    commit(end, length, tag)
    return DONE


@jit_inline
def peek(end):
    """Header and payload address of the next message; (0, why not) if there is none: AGAIN, CORRUPT, NOT_OPEN. Never waits."""
    if load(end + STATE) != OPEN:
        return 0, NOT_OPEN
    header, payload = ring.peek(end + CONSUMER)
    if header == 0:
        if payload == GAP:
            return _pass_gaps(end)
        if payload == NOTHING:
            if load(end + DOORBELL) != 0:
                watch_for_message(end + CONSUMER, end + DOORBELL)
            return 0, AGAIN
    return header, payload


@jit
def _pass_gaps(end):
    header, payload = ring.pass_gaps(end + CONSUMER)
    if payload == NOTHING and load(end + DOORBELL) != 0:
        watch_for_message(end + CONSUMER, end + DOORBELL)
    ring_producer(end)  # room for a producer asleep
    return header, (AGAIN if payload == NOTHING else payload)


@jit
def _keep_watch(end):
    """Silence the descriptor if the message taken was the last."""
    peek(end)


@jit_inline
def skip(end, header):
    """Go past the message under `header` and wake a producer that waits for its room."""
    ring.skip(end + CONSUMER, header)
    ring_producer(end)
    if load(end + DOORBELL) != 0:
        _keep_watch(end)


@jit_inline
def is_chunk(header):
    """Whether the record of this header is part of a message larger than the queue."""
    return header >= FIRST_CHUNK << ring.LENGTH_BITS


@jit
def send_chunk(end, address, length, tag):
    """`try_send` of a part of a message; until `end_stream` only further parts can be sent."""
    if load(end + LOAN) > 0 or load(end + LOAN) == READ_ONLY:
        return LOANED
    store(end + LOAN, 0)
    result = try_send(end, address, length, tag)
    if result == DONE and tag == CHUNK:
        store(end + PRODUCER + COUNT, load(end + PRODUCER + COUNT) - 1)  # counted with its first part
    store(end + LOAN, STREAMING)
    return result


@jit
def end_stream(end):
    """After the last `send_chunk` of a message, or when it is given up: others may send again."""
    if load(end + LOAN) == STREAMING:
        store(end + LOAN, 0)


@jit
def take_chunk(end, address, size):
    """Copy a part of a message to `address`, where `size` bytes have room; its length, or a result below zero."""
    header, payload = peek(end)
    if header == 0:
        return payload
    length = header_length(header)
    if length > size:
        return ring.CORRUPT
    memcpy(address, payload, length)
    if ring.header_tag(header) == CHUNK:
        store(end + CONSUMER + COUNT, load(end + CONSUMER + COUNT) - 1)
    skip(end, header)
    return length


@jit_inline
def hold(end, header):
    """Go past the message under `header`, and keep its room until `release`."""
    ring.hold(end + CONSUMER, header)
    if load(end + DOORBELL) != 0:
        _keep_watch(end)


@jit
def release(end, position):
    """Give everything before `position` back to the producer and wake it."""
    release_until(end + CONSUMER, position)
    ring_producer(end)


@jit_inline
def is_closed(end):
    """Whether the other end has closed. What it sent before is there for a `peek` after this."""
    # ACQUIRE pairs with the RELEASE in close_bell(): the last message before the end
    return load_acquire(load(end + CONSUMER + CONTROL) + PRODUCER_BELL) == CLOSED


# --- waiting: everything below takes time anyway, and stays out of the way of what does not


@jit
def spin_and_peek(end, limit_ns):
    """`peek` after a spin of at most `limit_ns`, and of SHORT_SPIN_NS; after one more if what came first was a gap."""
    position = load(end + CONSUMER + POSITION)
    spin_for_message(end + CONSUMER, min(limit_ns, SHORT_SPIN_NS))
    header, payload = peek(end)
    if payload == AGAIN and load(end + CONSUMER + POSITION) != position:
        spin_for_message(end + CONSUMER, min(limit_ns, SHORT_SPIN_NS))
        return peek(end)
    return header, payload


@jit
def await_message(end, waited_ns, limit_ns):
    """Until a message may be there, a signal comes, or the peer closes or ends; whether it has ended, by its number.

    Spins, then sleeps, as the end's waiting says. The wait has lasted for `waited_ns`, and ends after `limit_ns` in all. It
    looks at the peer after a quarter as long again, within limits: so a death costs little more than the wait for it.
    """
    start = clock() - waited_ns
    while 0 <= waited_ns < limit_ns:
        pause_ns = _pause(waited_ns, limit_ns)
        spin_ns = min(max(load(end + SPIN_NS) - waited_ns, 0), pause_ns)
        if spin_for_message(end + CONSUMER, spin_ns):
            return False
        if spin_ns < pause_ns:
            sleep_for_message(end + CONSUMER, pause_ns - spin_ns)
        waited_ns = _look(end, start, waited_ns + pause_ns)
        if spin_ns == pause_ns:  # no signal ends a spin, so the interpreter has to look for one
            break
    return waited_ns == _ENDED


@jit
def await_room(end, length, waited_ns, limit_ns):
    """Until room for `length` bytes may be there, or anything that ends `await_message`; whether the peer has ended."""
    start = clock() - waited_ns
    while 0 <= waited_ns < limit_ns:
        pause_ns = _pause(waited_ns, limit_ns)
        spin_ns = min(max(load(end + SPIN_NS) - waited_ns, 0), pause_ns)
        if spin_for_room(end + PRODUCER, length, spin_ns):
            return False
        if spin_ns < pause_ns:
            sleep_for_room(end + PRODUCER, length, pause_ns - spin_ns)
        waited_ns = _look(end, start, waited_ns + pause_ns)
        if spin_ns == pause_ns:
            break
    return waited_ns == _ENDED


@jit_inline
def _pause(waited_ns, limit_ns):
    return min(max(waited_ns // 4, SHORTEST_PAUSE_NS), LONGEST_PAUSE_NS, limit_ns - waited_ns)


@jit
def _look(end, start, due_ns):
    """How long the wait since `start` has lasted; _RUNG if that is less than was due, _ENDED if the peer has."""
    waited_ns = clock() - start
    if waited_ns < due_ns:
        return _RUNG
    seat = load(end + PEER_SEAT)
    namespace = load(seat + seats.NAMESPACE)  # 0 from a peer killed while it sat down
    ended = (namespace == 0 or namespace == load(end + NAMESPACE)) and has_ended(load(seat))
    return _ENDED if ended else waited_ns


@jit
def _claim_waiting(end, length, timeout_ns):
    start, ended = clock(), False
    while True:
        payload = try_claim(end, length)
        waited_ns = clock() - start
        if payload != AGAIN or waited_ns >= timeout_ns:
            return payload
        if ended:
            return PEER_DIED
        ended = await_room(end, length, waited_ns, timeout_ns)


@jit_inline
def claim(end, length, timeout_ns):
    """Wait for room and claim it; its address, or a result below zero (AGAIN: timed out)."""
    if length < 0 or length > ring.max_message(load(end + PRODUCER + CAPACITY)):
        return TOO_LARGE
    payload = try_claim(end, length)
    return _claim_waiting(end, length, timeout_ns) if payload == AGAIN else payload


@jit_inline
def send(end, address, length, timeout_ns):
    """Wait for room, copy a message in, publish it; DONE or a result below zero (AGAIN: timed out)."""
    payload = claim(end, length, timeout_ns)
    if payload < 0:
        return payload
    memcpy(payload, address, length)
    commit(end, length, 0)
    return DONE


@jit
def _borrow_waiting(end, timeout_ns):
    start, ended = clock(), False
    while True:
        closed = is_closed(end)  # looked at before the queue: what was sent before is received first
        header, payload = peek(end)
        if payload != AGAIN:
            return header, payload
        waited_ns = clock() - start
        if closed or ended or waited_ns >= timeout_ns:
            return 0, (PEER_CLOSED if closed else PEER_DIED if ended else AGAIN)
        ended = await_message(end, waited_ns, timeout_ns)


@jit_inline
def borrow(end, timeout_ns):
    """Wait for the next message; its header and payload address, or (0, result below zero). End it with `skip`.

    One larger than the queue is TOO_LARGE, and stays: `Connection` puts it together.
    """
    header, payload = peek(end)
    if payload == AGAIN and timeout_ns > 0:
        header, payload = spin_and_peek(end, min(load(end + SPIN_NS), timeout_ns))
        if payload == AGAIN:
            header, payload = _borrow_waiting(end, timeout_ns)
    if is_chunk(header):
        compiler_fence()  # stays a branch: after a conditional move all reads of the payload would wait for the header
        return 0, TOO_LARGE
    return header, payload


@jit_inline
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
