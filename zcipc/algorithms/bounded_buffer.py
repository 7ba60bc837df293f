"""The paper's queue as a working program: slots in shared memory, and the semaphores *empty*, *mutex* and *full*.

As printed, the paper initialises all three semaphores to 0: the first sender then waits for an empty slot and the first
receiver for a full one, for ever. Here *empty* starts with the number of slots, *mutex* with 1 and *full* with 0, as in
Dijkstra's bounded buffer ("Cooperating sequential processes", 1965). The data is copied into a slot and out of it.

Functions take the address of a *queue*: private words, so that nothing read from shared memory becomes an address unchecked.
"""

from numba import types

from zcipc.algorithms.ring import LINE
from zcipc.native.atomics import WORD, load, memcpy, semaphore_wait, store
from zcipc.native.compiled import jit

_sem_init = types.ExternalFunction("sem_init", types.int32(types.int64, types.int32, types.uint32))
_sem_post = types.ExternalFunction("sem_post", types.int32(types.int64))

# Offsets in shared memory.
EMPTY = 0 * LINE  # slots free
MUTEX = 1 * LINE  # 1: nobody is at the slots
FULL = 2 * LINE  # slots filled
WRITE = 3 * LINE  # messages written so far
READ = WRITE + WORD  # messages read so far
SLOTS_START = 4 * LINE  # a slot is a length word and the message

# The private words of a queue.
SHARED = 0 * WORD  # address of the shared part
SLOTS = 1 * WORD
SLOT_BYTES = 2 * WORD  # longest message, a multiple of 8
QUEUE_WORDS = 3

# Results below zero.
TIMED_OUT = -1
TOO_LARGE = -2
CORRUPT = -3  # a slot says that it holds more than a slot can
MUTEX_TAKEN = -4  # timed out at the mutex, which nobody alive holds for longer than a copy takes

_SHARED_BETWEEN_PROCESSES = 1


def shared_bytes(slots: int, slot_bytes: int) -> int:
    """Size of the shared part of a queue."""
    return SLOTS_START + slots * (WORD + slot_bytes)


@jit
def initialise(queue):
    """Set up the shared part, once, before anybody uses it."""
    shared = load(queue + SHARED)
    _sem_init(shared + EMPTY, _SHARED_BETWEEN_PROCESSES, load(queue + SLOTS))
    _sem_init(shared + MUTEX, _SHARED_BETWEEN_PROCESSES, 1)
    _sem_init(shared + FULL, _SHARED_BETWEEN_PROCESSES, 0)


@jit
def slot_at(queue, index):
    """Address of the slot with the word at `index` as its running number, and move that on."""
    number = load(load(queue + SHARED) + index)
    store(load(queue + SHARED) + index, number + 1)
    return load(queue + SHARED) + SLOTS_START + number % load(queue + SLOTS) * (WORD + load(queue + SLOT_BYTES))


@jit
def send(queue, address, length, timeout_ns):
    """Copy a message into the next slot, as soon as one is empty; 0, TIMED_OUT, MUTEX_TAKEN or TOO_LARGE."""
    shared = load(queue + SHARED)
    if length > load(queue + SLOT_BYTES):
        return TOO_LARGE
    if not semaphore_wait(shared + EMPTY, timeout_ns):
        return TIMED_OUT
    if not semaphore_wait(shared + MUTEX, timeout_ns):
        _sem_post(shared + EMPTY)
        return MUTEX_TAKEN
    slot = slot_at(queue, WRITE)
    store(slot, length)
    memcpy(slot + WORD, address, length)
    _sem_post(shared + MUTEX)
    _sem_post(shared + FULL)
    return 0


@jit
def receive(queue, address, timeout_ns):
    """Copy the next message to `address`, where there is room for a slot; its length, TIMED_OUT, MUTEX_TAKEN or CORRUPT."""
    shared = load(queue + SHARED)
    if not semaphore_wait(shared + FULL, timeout_ns):
        return TIMED_OUT
    if not semaphore_wait(shared + MUTEX, timeout_ns):
        _sem_post(shared + FULL)
        return MUTEX_TAKEN
    slot = slot_at(queue, READ)
    length = load(slot)
    if 0 <= length <= load(queue + SLOT_BYTES):
        memcpy(address, slot + WORD, length)
    else:
        length = CORRUPT
    _sem_post(shared + MUTEX)
    _sem_post(shared + EMPTY)
    return length


@jit
def free_mutex(queue):
    """Give back the mutex that a dead process took with it. A message it had not finished is not in *full*, and not seen."""
    _sem_post(load(queue + SHARED) + MUTEX)
