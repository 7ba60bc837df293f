"""The lock-free queue: one producer, one consumer, records of any size, whole or not at all.

**Memory.** The queue lives in shared memory as four control lines and a data area of `capacity` bytes, a power of two. A
line is 128 bytes, because processors prefetch 64-byte lines in pairs. Words that one side writes often stand alone on theirs.

**Record.** One header word, then the payload padded to whole words. The header is the commit flag: EMPTY; or tag and
length + 1; or, below zero, minus the size of a gap to be skipped. The consumer polls the header of the next record itself,
so a small message crosses from core to core in one cache-line transfer; a queue with a separate tail index needs two.

**The next header** is made EMPTY before a record is published. The consumer therefore never clears anything, and never takes
bytes of an earlier lap for a header. In exchange a claim needs room for one header more than the record.

**Trust.** Each side keeps its position, the address and the capacity in private memory; what it reads from shared memory
it checks before use. A hostile peer can spoil messages, never addresses.

Functions take the address of a *side*: private words, one block for the producer and one for the consumer of a queue.
None of them waits, allocates or enters the kernel. What every message passes is made part of its caller; what only some need,
a look at the other side's head, the wrap, a gap, stands apart in `claim_anew` and `pass_gaps`.
"""

from zcipc.native.atomics import WORD, load, load_acquire, store, store_release
from zcipc.native.compiled import jit, jit_inline

LINE = 128  # bytes

# The control lines of a queue: offsets in shared memory.
TAIL = 0 * LINE  # written by the producer, for onlookers, and a consumer that waits in a stream
HEAD = 1 * LINE  # written by the consumer: all before it is released
CONSUMER_BELL = 2 * LINE  # what a producer looks at after a commit (see waiting.py); nearly always 0, so both sides cache it
PRODUCER_BELL = 3 * LINE  # what a consumer looks at after a release
CONTROL_BYTES = 4 * LINE

# The private words of a side.
CONTROL = 0 * WORD  # address of the control lines
DATA = 1 * WORD  # address of the data area
CAPACITY = 2 * WORD  # bytes in the data area
POSITION = 3 * WORD  # where the next record starts; counts bytes for ever, the offset is its remainder by CAPACITY
KNOWN_HEAD = 4 * WORD  # producer: HEAD as last read; consumer: HEAD as last written
FLOOR = 5 * WORD  # producer: records from here on are not overwritten, whatever the consumer released; see Channel.loan
COUNT = 6 * WORD  # messages so far
COUNT_AT_WAIT = 7 * WORD  # consumer: COUNT when it last found nothing and spun
SIDE_BYTES = LINE
NO_FLOOR = (1 << 63) - 1

# Headers. Length and tag share the word, so that a record has one flag and one fate.
HEADER = WORD
EMPTY = 0
LENGTH_BITS = 48
LENGTH_MASK = (1 << LENGTH_BITS) - 1

# What a function returns in place of an address.
NOTHING = 0  # full, or empty
CORRUPT = -1
GAP = -2  # pass_gaps() first


@jit_inline
def max_message(capacity):
    """Bytes in the longest payload that fits: the record and the header after it must have room at the start of a lap."""
    return capacity - 2 * HEADER


@jit_inline
def padded(length):
    return (length + WORD - 1) & -WORD


@jit_inline
def header_of(length, tag):
    return (tag << LENGTH_BITS) | (length + 1)


@jit_inline
def header_length(header):
    """Bytes of the payload under `header`."""
    return (header & LENGTH_MASK) - 1


@jit_inline
def header_tag(header):
    return header >> LENGTH_BITS


@jit
def has_room(producer, until):
    """Whether the producer may write up to position `until` and one header after it; CORRUPT if the head is impossible."""
    limit = until + HEADER - load(producer + CAPACITY)
    if limit <= load(producer + KNOWN_HEAD):
        return 1
    head = load_acquire(load(producer + CONTROL) + HEAD)  # ACQUIRE pairs with the RELEASE in release_until(): read before reuse
    if head < load(producer + KNOWN_HEAD) or head > load(producer + POSITION):
        return CORRUPT
    store(producer + KNOWN_HEAD, min(head, load(producer + FLOOR)))
    return 1 if limit <= load(producer + KNOWN_HEAD) else 0


@jit_inline
def publish(producer, size, header):
    """Publish the `size` bytes at the producer's position under `header`, and move on. Wait-free."""
    data, mask, position = load(producer + DATA), load(producer + CAPACITY) - 1, load(producer + POSITION)
    following = position + size
    store(data + (following & mask), EMPTY)  # the consumer's next poll must not see an old lap
    store(producer + POSITION, following)
    store_release(data + (position & mask), header)  # RELEASE pairs with the ACQUIRE in peek(): payload and EMPTY before header
    store(load(producer + CONTROL) + TAIL, following)


@jit_inline
def claim(producer, length):
    """Address of room for a payload of `length` bytes, if there is any before the end of the lap and the head last seen.

    Else NOTHING: then `claim_anew` tells. Wait-free, repeatable.
    """
    capacity, position = load(producer + CAPACITY), load(producer + POSITION)
    offset = position & (capacity - 1)
    size = HEADER + padded(length)
    if size > capacity - offset or position + size + HEADER - capacity > load(producer + KNOWN_HEAD):
        return NOTHING
    return load(producer + DATA) + offset + HEADER


@jit
def claim_anew(producer, length):
    """`claim` after a look at the consumer's head, and past the end of the lap; NOTHING while the queue is full, or CORRUPT.

    A record never wraps. If it does not fit before the end of the data area, the rest is a gap, which is published as soon as
    it fits: so a message of nearly the whole capacity passes once the consumer has caught up. Wait-free, repeatable.
    """
    capacity, position = load(producer + CAPACITY), load(producer + POSITION)
    size = HEADER + padded(length)
    rest = capacity - (position & (capacity - 1))
    if size > rest:
        room = has_room(producer, position + rest)
        if room != 1:
            return room
        publish(producer, rest, -rest)
        position += rest
    room = has_room(producer, position + size)
    if room != 1:
        return room
    return load(producer + DATA) + (position & (capacity - 1)) + HEADER


@jit
def can_claim(producer, length):
    """Whether claim_anew() would get on: find room, publish the gap before it, or meet a corrupt head. Publishes nothing."""
    capacity, position = load(producer + CAPACITY), load(producer + POSITION)
    size = HEADER + padded(length)
    rest = capacity - (position & (capacity - 1))
    return has_room(producer, position + min(size, rest)) != 0


@jit_inline
def commit(producer, length, tag):
    """Publish the record claimed last, `length` bytes long (no more than claimed). Wait-free."""
    publish(producer, HEADER + padded(length), header_of(length, tag))
    store(producer + COUNT, load(producer + COUNT) + 1)


@jit
def commit_gap(producer, length):
    """Publish what was claimed last as a gap: no message, and the consumer goes past it. Wait-free."""
    size = HEADER + padded(length)
    publish(producer, size, -size)


@jit_inline
def peek(consumer):
    """Header and payload address of the next record, or 0 and why not: NOTHING there, or a GAP, or CORRUPT. Wait-free."""
    data, capacity, position = load(consumer + DATA), load(consumer + CAPACITY), load(consumer + POSITION)
    offset = position & (capacity - 1)
    header = load_acquire(data + offset)  # ACQUIRE pairs with the RELEASE in publish(): header before payload
    if header <= 0:
        return 0, (NOTHING if header == EMPTY else GAP)
    length = header_length(header)
    if length < 0 or length > capacity - offset - HEADER:
        return 0, CORRUPT
    return header, data + offset + HEADER


@jit
def pass_gaps(consumer):
    """`peek` past the gaps at the consumer's position, whose room is released unless an earlier record is held. Wait-free."""
    capacity = load(consumer + CAPACITY)
    lap_end = load(consumer + POSITION) + capacity
    while load(consumer + POSITION) < lap_end:  # a peer that publishes gaps for ever is not followed for ever
        header, payload = peek(consumer)
        if payload != GAP:
            return header, payload
        position = load(consumer + POSITION)
        offset = position & (capacity - 1)
        size = -load_acquire(load(consumer + DATA) + offset)  # ACQUIRE pairs with the RELEASE in publish()
        if size <= 0 or size > capacity - offset or size & (WORD - 1):
            return 0, CORRUPT
        advance(consumer, position + size)
    return 0, NOTHING


@jit_inline
def advance(consumer, position):
    """Move the consumer to `position`, and release what lies before it unless an earlier record is still held."""
    held = load(consumer + KNOWN_HEAD) != load(consumer + POSITION)
    store(consumer + POSITION, position)
    if not held:
        release_until(consumer, position)


@jit_inline
def skip(consumer, header):
    """Go past the record under `header`. Its bytes are released unless an earlier record is still held. Wait-free."""
    store(consumer + COUNT, load(consumer + COUNT) + 1)
    advance(consumer, load(consumer + POSITION) + HEADER + padded(header_length(header)))


@jit
def hold(consumer, header):
    """Go past the record under `header` and keep its bytes until release_until(). Wait-free."""
    store(consumer + COUNT, load(consumer + COUNT) + 1)
    store(consumer + POSITION, load(consumer + POSITION) + HEADER + padded(header_length(header)))


@jit_inline
def release_until(consumer, position):
    """Give all bytes before `position` back to the producer. Wait-free."""
    store(consumer + KNOWN_HEAD, position)
    store_release(load(consumer + CONTROL) + HEAD, position)  # RELEASE pairs with the ACQUIRE in has_room(): reads before reuse
