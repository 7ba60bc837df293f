"""One queue for many producers and many consumers: a ring whose two sides are shared, each behind a robust lock.

**State.** What a side of the ring keeps in private memory when it has one user, its position and its count, lies in shared
memory here. Whoever has the side's lock copies it into private words, lets `ring.py` work on these, and copies it back. A count
selects one of two positions by its lowest bit, so count and position change together, by one store.

**Death.** A producer killed at any instant has published its record or has not: the header says which. Who takes its lock over
goes past what is published and not yet counted. A consumer killed at any instant has counted its record, and then it is gone
with it, or has not, and then it is the next one's. So the dead take nothing of anybody else's.

The compiled functions run under the interpreter lock as those of a channel do. Only copying large items, and sleeping, is done
without. Whoever holds a lock of the queue runs no Python and makes no object that the garbage collector looks at: no signal
handler and no finalizer ever runs inside.

**Cache lines.** A producer looks at what the consumers write only when the queue may be full, and a consumer polls the header
of the next record, which it needs anyway.
"""

from collections.abc import Callable
from typing import Any

from zcipc.algorithms import ring
from zcipc.algorithms.ring import CAPACITY, CORRUPT, COUNT, DATA, EMPTY, GAP, HEADER, KNOWN_HEAD, LINE, NOTHING, POSITION
from zcipc.algorithms.robust_lock import await_unlock, lock, take_over, unlock
from zcipc.algorithms.waiting import EAGER_LOOKS, FENCED, LOOKS_PER_CLOCK, SLEEPING, prepare_to_sleep, ring_bell
from zcipc.codec import BYTES
from zcipc.native.atomics import (
    WORD,
    clock,
    compare_exchange,
    futex_wait,
    load,
    load_acquire,
    memcpy,
    pause,
    store,
    store_release,
)
from zcipc.native.compiled import jit, jit_inline
from zcipc.native.extension import (
    HANDLE_END,
    Method,
    allocate,
    as_it_is,
    c_string,
    call_method,
    clear_error,
    data_of,
    data_of_bytes,
    drop_reference,
    entry,
    fill_list,
    free,
    int_value,
    is_bytes,
    list_item,
    list_size,
    new_bytes,
    new_int,
    new_list,
    new_none,
    no_result,
    only_keyword,
    restore_thread,
    save_thread,
    stack_words,
    tuple_item,
)
from zcipc.native.object_code import cfunction

# The shared memory: offsets from its start.
PRODUCERS = 0 * LINE  # the state of a side
CONSUMERS = 1 * LINE
FINISHED = 2 * LINE  # items that task_done() was called for
FINISHED_BELL = 3 * LINE
RING = 4 * LINE  # control lines
DATA_OFFSET = 4096

# The state of a side.
LOCK = 0 * WORD
COUNTED = 1 * WORD  # items so far
POSITIONS = 2 * WORD  # two: the one with the lowest bit of COUNTED holds

# A member's private words.
PRODUCER = 0
CONSUMER = ring.SIDE_BYTES
BASE = 2 * ring.SIDE_BYTES  # address of the shared memory
ME = BASE + WORD  # what this process writes into a lock, or 0 while it has not opened the queue
MAXSIZE = BASE + 2 * WORD  # items
KNOWN_TAKEN = BASE + 3 * WORD  # items that were taken when it last looked
DIRECT = BASE + 4 * WORD  # 1 while the native methods may go ahead: not closed here, and no other pickle
MEMBER_BYTES = 2 * ring.SIDE_BYTES + LINE

# Results.
DONE = 0
AGAIN = -2  # full, or empty
NOT_OPEN = -5
LOCKED = -8

LARGE = 1 << 15  # bytes whose copy is worth giving up the interpreter lock
_RECORD = 3 * WORD  # address, length, tag
_TAKEN = 2 * WORD  # tag, address of the object
_one_record = stack_words(3)
_two_objects = stack_words(2)
_put_name, _get_name, _decode_name = c_string("_put"), c_string("_get"), c_string("_decode")
_timeout_name, _block_name = c_string("timeout"), c_string("block")


# --- the state of a side, for who has its lock


@jit_inline
def _load_state(side, shared):
    count = load(shared + COUNTED)
    store(side + COUNT, count)
    store(side + POSITION, load(shared + POSITIONS + (count & 1) * WORD) & -WORD)


@jit_inline
def _save_state(side, shared):
    """The count may be one more than before, or the same."""
    count = load(side + COUNT)
    store(shared + POSITIONS + (count & 1) * WORD, load(side + POSITION))
    store_release(shared + COUNTED, count)  # RELEASE pairs with the compare_exchange of who takes over, and with _length()


@jit
def _repair_producers(end):
    """Go past what the dead one published and had not counted: at the most a gap and an item."""
    base, side = load(end + BASE), end + PRODUCER
    _load_state(side, base + PRODUCERS)
    data, capacity = load(side + DATA), load(side + CAPACITY)
    lap_end = load(side + POSITION) + capacity
    while load(side + POSITION) < lap_end:
        offset = load(side + POSITION) & (capacity - 1)
        header = load_acquire(data + offset)  # ACQUIRE pairs with the RELEASE in publish()
        size = -header if header < 0 else HEADER + ring.padded(ring.header_length(header))
        if header == EMPTY or size > capacity - offset or size & (WORD - 1):
            break
        store(side + POSITION, load(side + POSITION) + size)
        store(side + COUNT, load(side + COUNT) + (header > 0))
        _save_state(side, base + PRODUCERS)
    store(base + RING + ring.TAIL, load(side + POSITION))
    ring_bell(base + RING + ring.CONSUMER_BELL)


@jit
def _repair_consumers(end):
    """Release what the dead one took; and go past the gap that it released."""
    base, side = load(end + BASE), end + CONSUMER
    _load_state(side, base + CONSUMERS)
    store(side + POSITION, max(load(side + POSITION), load(base + RING + ring.HEAD)))
    _save_state(side, base + CONSUMERS)
    ring.release_until(side, load(side + POSITION))
    ring_bell(base + RING + ring.PRODUCER_BELL)


@jit
def _length(queue):
    base = load(load(queue + HANDLE_END) + BASE)
    taken = load_acquire(base + CONSUMERS + COUNTED)  # ACQUIRE pairs with the RELEASE in _save_state()
    return max(load(base + PRODUCERS + COUNTED) - taken, 0)


@jit_inline
def _is_usual(count, keywords):
    """Whether `count` arguments and the keywords can only be `block` and `timeout`: what they say matters to a wait alone."""
    if keywords == 0:
        return count <= 2
    return count == 0 and (only_keyword(keywords, _timeout_name()) or only_keyword(keywords, _block_name()))


# --- put


@jit
def _has_room(producer, records, count):
    """Whether all of `count` records fit, one behind the other; CORRUPT if the head is impossible."""
    capacity, position = load(producer + CAPACITY), load(producer + POSITION)
    for index in range(count):
        size = HEADER + ring.padded(load(records + index * _RECORD + WORD))
        rest = capacity - (position & (capacity - 1))
        position += size if size <= rest else rest + size
    return ring.has_room(producer, position)


@jit
def _exceeds_maxsize(end, put):
    """Whether `put` items so far would be too many at once."""
    if put - load(end + KNOWN_TAKEN) <= load(end + MAXSIZE):
        return False
    taken = load_acquire(load(end + BASE) + CONSUMERS + COUNTED)  # ACQUIRE pairs with the RELEASE in _save_state()
    store(end + KNOWN_TAKEN, taken)
    return put - taken > load(end + MAXSIZE)


@jit
def _put_locked(end, records, count):
    base, side = load(end + BASE), end + PRODUCER
    _load_state(side, base + PRODUCERS)
    if _exceeds_maxsize(end, load(side + COUNT) + count):
        return AGAIN
    room = _has_room(side, records, count) if count > 1 else 1  # for one, the claim tells
    if room != 1:
        payload = ring.claim_anew(side, load(records + WORD))  # publishes the gap before a record that needs the next lap
        _save_state(side, base + PRODUCERS)
        return CORRUPT if CORRUPT in (room, payload) else AGAIN
    for index in range(count):
        record = records + index * _RECORD
        length = load(record + WORD)
        payload = ring.claim(side, length)
        if payload == NOTHING:
            payload = ring.claim_anew(side, length)
        if payload <= 0:
            _save_state(side, base + PRODUCERS)
            return CORRUPT if payload == CORRUPT else AGAIN
        memcpy(payload, load(record), length)
        ring.commit(side, length, load(record + 2 * WORD))
        _save_state(side, base + PRODUCERS)
    return DONE


@jit
def _put_records(end, records, count):
    me, base = load(end + ME), load(end + BASE)
    if me == 0:
        return NOT_OPEN
    if not lock(base + PRODUCERS + LOCK, me):
        return LOCKED
    result = _put_locked(end, records, count)
    unlock(base + PRODUCERS + LOCK, me)
    ring_bell(base + RING + ring.CONSUMER_BELL)
    return result


@jit_inline
def _describe(record, address, length, tag):
    store(record, address)
    store(record + WORD, length)
    store(record + 2 * WORD, tag)


@cfunction(Method)
def put(self, arguments, count, keywords):
    """`Queue.put(obj, block, timeout)`, where `obj` is a `bytes` and there is room."""
    end = load(self + HANDLE_END)
    if count > 0 and load(end + DIRECT) != 0 and is_bytes(load(arguments)) and _is_usual(count - 1, keywords):
        address, length = data_of_bytes(load(arguments))
        record = _one_record()
        _describe(record, address, length, BYTES)
        if length <= LARGE and _put_records(end, record, 1) == DONE:
            return new_none()
    return call_method(_put_name(), self, arguments, count, keywords)


@jit
def _put(queue, items):
    """Put all of a list of `bytes` or `(tag, data)`, or none: DONE, AGAIN, LOCKED, NOT_OPEN or CORRUPT."""
    end, count = load(queue + HANDLE_END), list_size(items)
    records, total = allocate(count * _RECORD), 0
    for index in range(count):
        data, tag = list_item(items, index), BYTES
        if not is_bytes(data):
            data, tag = tuple_item(data, 1), int_value(tuple_item(data, 0))
        address, length = data_of(data)  # the list keeps it, and nobody else has it
        _describe(records + index * _RECORD, address, length, tag)
        total += length
    if total > LARGE:
        thread = save_thread()
        result = _put_records(end, records, count)
        restore_thread(thread)
    else:
        result = _put_records(end, records, count)
    free(records)
    return result


# --- get


@jit
def _peek(consumer):
    header, payload = ring.peek(consumer)
    return ring.pass_gaps(consumer) if payload == GAP else (header, payload)


@jit
def _begin_get(end):
    """Lock the side and look at its next item: its header and payload; or 0 and why not, and then the lock is free again."""
    me, base, side = load(end + ME), load(end + BASE), end + CONSUMER
    if me == 0:
        return 0, NOT_OPEN
    if not lock(base + CONSUMERS + LOCK, me):
        return 0, LOCKED
    _load_state(side, base + CONSUMERS)
    store(side + KNOWN_HEAD, load(side + POSITION))
    header, payload = _peek(side)
    if header == 0:
        _end_get(end)
        return 0, (AGAIN if payload == NOTHING else CORRUPT)
    return header, payload


@jit_inline
def _take(end, header):
    """Count the item: from now on it is this process's, or gone with it."""
    ring.hold(end + CONSUMER, header)
    _save_state(end + CONSUMER, load(end + BASE) + CONSUMERS)


@jit
def _end_get(end):
    """Release what was taken, and the gaps that were passed, and unlock the side."""
    base, side = load(end + BASE), end + CONSUMER
    _save_state(side, base + CONSUMERS)
    ring.release_until(side, load(side + POSITION))
    unlock(base + CONSUMERS + LOCK, load(end + ME))
    ring_bell(base + RING + ring.PRODUCER_BELL)


@jit
def _comes(consumer):
    """Whether the next record comes within a few looks. Without the lock: another may take it, or have taken it."""
    header = load(consumer + DATA) + (load(consumer + POSITION) & (load(consumer + CAPACITY) - 1))
    for _ in range(EAGER_LOOKS):
        if load(header) != EMPTY:
            break
    return load(header) != EMPTY


@cfunction(Method)
def get(self, arguments, count, keywords):
    """`Queue.get(block, timeout)`, where an item is there within a few looks."""
    end = load(self + HANDLE_END)
    if load(end + DIRECT) != 0 and _is_usual(count, keywords):
        header, payload = _begin_get(end)
        if payload == AGAIN and count == 0 and keywords == 0 and _comes(end + CONSUMER):
            header, payload = _begin_get(end)
        if header != 0:
            length, tag = ring.header_length(header), ring.header_tag(header)
            if length <= LARGE:
                data = new_bytes(payload, length)
                if data != 0:  # else no memory: the item stays in the queue
                    _take(end, header)
                _end_get(end)
                return data if data == 0 or tag == BYTES else _decoded(self, tag, data)
            _end_get(end)
    return call_method(_get_name(), self, arguments, count, keywords)


@jit
def _decoded(queue, tag, data):
    """`queue._decode(tag, data)`, which takes over the reference to `data`; 0 with an exception set."""
    pair, number = _two_objects(), new_int(tag)
    store(pair, number)
    store(pair + WORD, data)
    obj = call_method(_decode_name(), queue, pair, 2, 0)
    drop_reference(number)
    drop_reference(data)
    return obj


@jit
def _take_many(end, header, payload, taken, most):
    """Take up to `most` items into the array `taken`, unlock the side, and say how many; 0 with an exception set.

    A `bytes` is nothing that the garbage collector looks at: it does not run now, and no finalizer with it.
    """
    count = 0
    while header != 0 and count < most:
        length = ring.header_length(header)
        large = length > LARGE
        data = 0 if large and count > 0 else new_bytes(0 if large else payload, length)
        if data == 0:
            break
        store(taken + count * _TAKEN, ring.header_tag(header))
        store(taken + count * _TAKEN + WORD, data)
        count += 1
        if large:
            address, _ = data_of_bytes(data)
            thread = save_thread()
            memcpy(address, payload, length)
            _take(end, header)
            _end_get(end)
            restore_thread(thread)
            return count
        _take(end, header)
        header, payload = _peek(end + CONSUMER)
    _end_get(end)
    if count > 0:
        clear_error()  # no memory: those that were taken are returned first
    return count


@jit
def _list_of(queue, taken, count):
    """A list of the objects that were taken; 0 with an exception set."""
    direct, decoded = load(load(queue + HANDLE_END) + DIRECT) != 0, 0
    for index in range(count):
        item = taken + index * _TAKEN
        if not direct or load(item) != BYTES:
            store(item + WORD, _decoded(queue, load(item), load(item + WORD)))
        if load(item + WORD) == 0:
            break
        decoded += 1
    items = new_list(count) if decoded == count else 0
    for index in range(count):
        obj = load(taken + index * _TAKEN + WORD)
        if items != 0:
            fill_list(items, index, obj)
        elif obj != 0:
            drop_reference(obj)
    return items


@jit
def _get(queue, most):
    """A list of up to `most` objects; or AGAIN, LOCKED, NOT_OPEN or CORRUPT as an `int`; or 0 with an exception set."""
    end = load(queue + HANDLE_END)
    header, payload = _begin_get(end)
    if header == 0:
        return new_int(payload)
    there = max(_length(queue), 1)  # 0 if a killed producer did not come to count it
    most = min(most, there, load(end + CONSUMER + CAPACITY) // HEADER)  # more only if the counts are spoilt
    taken = allocate(most * _TAKEN)
    count = _take_many(end, header, payload, taken, most)
    items = _list_of(queue, taken, count) if count > 0 else 0
    free(taken)
    return items


# --- task_done, waiting and the rest


@jit
def _unfinished(base):
    put = load_acquire(base + PRODUCERS + COUNTED)  # ACQUIRE pairs with the RELEASE in _save_state()
    taken = load_acquire(base + CONSUMERS + COUNTED)  # more, if a killed producer's item was taken before it was counted
    return max(put, taken) - load(base + FINISHED)


@jit
def _finish(queue):
    """One item more is finished; AGAIN if all are already."""
    base = load(load(queue + HANDLE_END) + BASE)
    while _unfinished(base) > 0:
        finished = load(base + FINISHED)
        if compare_exchange(base + FINISHED, finished, finished + 1) == finished:
            ring_bell(base + FINISHED_BELL)
            return DONE
    return AGAIN


@jit
def _count_unfinished(queue):
    return _unfinished(load(load(queue + HANDLE_END) + BASE))


@jit
def _free_bytes(queue):
    base = load(load(queue + HANDLE_END) + BASE)
    head = load(base + RING + ring.HEAD)
    return load(load(queue + HANDLE_END) + PRODUCER + CAPACITY) - (load(base + RING + ring.TAIL) - head)


@jit
def _word(queue, offset):
    """A word of the shared memory: what one who waits looks at, or a lock."""
    return load(load(load(queue + HANDLE_END) + BASE) + offset)


@jit
def _await_change(queue, offset, bell_offset, seen, spin_ns, limit_ns):
    """Until a word is no longer what was seen, or `limit_ns` have passed: spin, then sleep on a bell."""
    base = load(load(queue + HANDLE_END) + BASE)
    word, bell = base + offset, base + bell_offset
    thread = save_thread()
    start = clock()
    if spin_ns > 0:
        for _ in range(EAGER_LOOKS):
            if load(word) != seen:
                break
    while load(word) == seen and clock() - start < spin_ns:
        for _ in range(LOOKS_PER_CLOCK):
            if load(word) != seen:
                break
            pause()
    if load(word) == seen and spin_ns < limit_ns:
        prepare_to_sleep(bell)
        if load(word) == seen:
            futex_wait(bell, SLEEPING, limit_ns - spin_ns)
    restore_thread(thread)


@jit
def _await_lock(queue, offset, limit_ns):
    base = load(load(queue + HANDLE_END) + BASE)
    thread = save_thread()
    holder = await_unlock(base + offset + LOCK, limit_ns)
    restore_thread(thread)
    return holder


@jit
def _inherit(queue, offset, holder):
    """Take a lock over from a dead holder, repair its side and unlock it."""
    end = load(queue + HANDLE_END)
    word = load(end + BASE) + offset + LOCK
    if take_over(word, holder, load(end + ME)):
        if offset == PRODUCERS:
            _repair_producers(end)
        else:
            _repair_consumers(end)
        unlock(word, load(end + ME))


@jit
def _fence_bells(queue):
    """Once, when the memory is new. Wakers run a fence: they just ran two with the lock, and no process has to register."""
    base = load(load(queue + HANDLE_END) + BASE)
    for bell in (RING + ring.CONSUMER_BELL, RING + ring.PRODUCER_BELL, FINISHED_BELL):
        store(base + bell + FENCED, 1)


class _Entries:
    """The compiled functions that the interpreter calls, past numba's dispatcher."""

    put: Callable[..., int] = entry(_put, "OO", new_int)
    get: Callable[..., int | list[Any]] = entry(_get, "OL", as_it_is)
    finish: Callable[..., int] = entry(_finish, "O", new_int)
    unfinished: Callable[..., int] = entry(_count_unfinished, "O", new_int)
    length: Callable[..., int] = entry(_length, "O", new_int)
    free_bytes: Callable[..., int] = entry(_free_bytes, "O", new_int)
    word: Callable[..., int] = entry(_word, "OL", new_int)
    await_change: Callable[..., None] = entry(_await_change, "OLLLLL", no_result)
    await_lock: Callable[..., int] = entry(_await_lock, "OLL", new_int)
    inherit: Callable[..., None] = entry(_inherit, "OLL", no_result)
    fence_bells: Callable[..., None] = entry(_fence_bells, "O", no_result)


entries: _Entries = _Entries()
