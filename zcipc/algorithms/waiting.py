"""Waiting for a message or for room: spin, then sleep on a futex, without a system call or a fence for the side that is awake.

Each side of a queue has a *bell*, a word in shared memory that the other side looks at after every commit or release. It
is AWAKE, SLEEPING or CLOSED. The sleeper sets SLEEPING, runs a barrier, looks at the queue once more, and only then
sleeps on the bell.

The waker publishes, then looks at the bell. These two must not be swapped, which on every processor takes a full fence
between them; here the sleeper pays for both sides with `membarrier`, which makes every running thread of the registered
processes pass one. Either the sleeper sees what was published or the waker sees the bell: no wake-up is lost.
Where the kernel lacks membarrier, or the sleeper means to sleep at each message (`block`), FENCED stands beside the bell and
the waker runs the fence.
"""

from enum import Enum

from zcipc.algorithms.doorbell import ring_door, ring_own_door, silence_door
from zcipc.algorithms.ring import (
    CAPACITY,
    CONSUMER_BELL,
    CONTROL,
    COUNT,
    COUNT_AT_WAIT,
    DATA,
    EMPTY,
    POSITION,
    PRODUCER_BELL,
    TAIL,
    can_claim,
)
from zcipc.native.atomics import (
    WORD,
    clock,
    compare_exchange,
    compiler_fence,
    fence,
    futex_wait,
    futex_wake,
    load,
    membarrier,
    pause,
    store,
    store_release,
)
from zcipc.native.compiled import jit, jit_inline
from zcipc.native.membarrier import GLOBAL_EXPEDITED, REGISTER_GLOBAL_EXPEDITED

AWAKE = 0
SLEEPING = 1
CLOSED = 2
# Offsets of the words beside the bell.
FENCED = 1 * WORD
WATCHED = 2 * WORD  # where to ring as well, because the sleeper may wait for a descriptor (see doorbell.py); 0: nowhere
AWAITED = 3 * WORD  # of a watched consumer: the position of the record that it waits for

EAGER_LOOKS = 200  # before the first look at the clock: longer than an answer from the other core takes
LOOKS_PER_CLOCK = 64
MOST_PATIENCE = 1024  # pauses before the first look, in a stream: 24 µs on Zen 4, and seldom reached
PATIENCE_PER_MESSAGE = 16  # so that two requests under way cost half a microsecond, and a stream soon reaches the most
PAUSES_PER_GLANCE = 64  # until a look at how far the producer has come, which ends the patience:
FEW_BYTES = 256  # since the last glance: it is not so fast that it could be disturbed
MANY_BYTES = 16 << 10  # in all: worth the disturbance


class Waiting(Enum):
    """How an end waits. The value is how long it spins before it sleeps, in nanoseconds."""

    SPIN = 1 << 62  # never sleeps: lowest latency, one whole core
    HYBRID = 50_000  # the default: longer than a wake-up takes, so that short waits stay out of the kernel
    BLOCK = 0  # sleeps at once: for waits that are long, or more processes than cores


@jit
def register_for_barrier():
    """Let sleepers in other processes order this one's accesses; False where the kernel cannot. Once a process is enough."""
    return membarrier(REGISTER_GLOBAL_EXPEDITED) == 0


@jit
def set_fenced(bell):
    """From now on wakers of `bell` run a fence themselves. The barrier makes sure that none still looks without one."""
    store(bell + FENCED, 1)
    fence()
    membarrier(GLOBAL_EXPEDITED)


@jit_inline
def ring_bell(bell, doorbell=0, position=0):
    """Wake whoever sleeps at `bell`, after a commit up to `position` or a release. The rest is for ends that may be watched."""
    if load(bell + FENCED) != 0:
        fence()  # pairs with the fence in prepare_to_sleep()
    else:
        compiler_fence()  # pairs with the membarrier in prepare_to_sleep()
    if load(bell) == SLEEPING:
        wake(bell, doorbell, position)


@jit
def wake(bell, doorbell, position):
    """Wake the sleeper at `bell`, unless somebody else just did.

    A watcher that took the record before its waker came here waits for the next one already: to ring now would announce a
    message that is not there, and the watcher might block to receive it.
    """
    where = load(bell + WATCHED)
    if where != 0:
        fence()  # pairs with the exchange in prepare_to_sleep(): SLEEPING before AWAITED
        if position <= load(bell + AWAITED):
            return
    if compare_exchange(bell, SLEEPING, AWAKE) == SLEEPING:
        futex_wake(bell)
        if where != 0:
            ring_door(where, doorbell)


@jit
def close_bell(bell):
    """Tell the other side for good that this one is gone."""
    store_release(bell, CLOSED)  # RELEASE pairs with the ACQUIRE in operations.is_closed(): the last message before the end
    fence()


@jit
def prepare_to_sleep(bell):
    """Set the bell, so that whatever is published from now on is either seen at the next look or rings."""
    compare_exchange(bell, AWAKE, SLEEPING)
    if load(bell + FENCED) != 0:
        fence()  # pairs with the fence in ring_bell()
    else:
        membarrier(GLOBAL_EXPEDITED)  # pairs with the compiler_fence in ring_bell()


@jit
def watch_for_message(consumer, doorbell):
    """Let the descriptor be readable from the next record, or the close, on, and not before."""
    control, position = load(consumer + CONTROL), load(consumer + POSITION)
    silence_door(doorbell)
    store(control + CONSUMER_BELL + AWAITED, position)
    prepare_to_sleep(control + CONSUMER_BELL)
    header = load(consumer + DATA) + (position & (load(consumer + CAPACITY) - 1))
    if load(header) != EMPTY or load(control + PRODUCER_BELL) == CLOSED:
        ring_own_door(doorbell)


@jit
def watch_for_room(producer, length, doorbell):
    """Let the descriptor be readable from when a record of `length` bytes fits, or the close, on."""
    control = load(producer + CONTROL)
    prepare_to_sleep(control + PRODUCER_BELL)
    if can_claim(producer, length) or load(control + CONSUMER_BELL) == CLOSED:
        ring_own_door(doorbell)


@jit
def spin_for_message(consumer, spin_ns):
    """Spin until a record is there or the producer closes, for about `spin_ns`; whether there is a reason to look.

    A consumer that looks right behind the producer takes the line away that is being written, at every message. So the more
    messages came since it last had to wait, the longer it waits before it looks. In a ping-pong that is one: it looks at once.
    Meanwhile the producer's TAIL, which lies on a line of its own, tells whether waiting still pays. Nothing else hangs on it.
    """
    control = load(consumer + CONTROL)
    header = load(consumer + DATA) + (load(consumer + POSITION) & (load(consumer + CAPACITY) - 1))
    if spin_ns > 0:
        count = load(consumer + COUNT)
        gathered = count - load(consumer + COUNT_AT_WAIT)
        store(consumer + COUNT_AT_WAIT, count)
        patience = min(PATIENCE_PER_MESSAGE * (gathered - 1), MOST_PATIENCE)
        position = tail = load(consumer + POSITION)
        while patience > 0:
            for _ in range(min(patience, PAUSES_PER_GLANCE)):
                pause()
            patience -= PAUSES_PER_GLANCE
            last, tail = tail, load(control + TAIL)
            if tail - last < FEW_BYTES or tail - position > MANY_BYTES:
                break
        for _ in range(EAGER_LOOKS):
            if load(header) != EMPTY:
                return True
            pause()
        start = clock()
        while clock() - start < spin_ns and load(control + PRODUCER_BELL) != CLOSED:
            for _ in range(LOOKS_PER_CLOCK):
                if load(header) != EMPTY:
                    return True
                pause()
    return load(header) != EMPTY or load(control + PRODUCER_BELL) == CLOSED


@jit
def sleep_for_message(consumer, limit_ns):
    """Sleep until a record is there or the producer closes, for `limit_ns` at the most. The caller looks which."""
    control = load(consumer + CONTROL)
    header = load(consumer + DATA) + (load(consumer + POSITION) & (load(consumer + CAPACITY) - 1))
    bell = control + CONSUMER_BELL
    prepare_to_sleep(bell)
    if load(header) == EMPTY and load(control + PRODUCER_BELL) != CLOSED:
        futex_wait(bell, SLEEPING, limit_ns)


@jit
def spin_for_room(producer, length, spin_ns):
    """Spin until a record of `length` bytes fits or the consumer closes, for about `spin_ns`; whether to look again."""
    control = load(producer + CONTROL)
    if spin_ns > 0:
        for _ in range(EAGER_LOOKS):
            if can_claim(producer, length):
                return True
            pause()
        start = clock()
        while clock() - start < spin_ns and load(control + CONSUMER_BELL) != CLOSED:
            for _ in range(LOOKS_PER_CLOCK):
                if can_claim(producer, length):
                    return True
                pause()
    return can_claim(producer, length) or load(control + CONSUMER_BELL) == CLOSED


@jit
def sleep_for_room(producer, length, limit_ns):
    """Sleep until a record of `length` bytes fits or the consumer closes, for `limit_ns` at most. The caller looks which."""
    control = load(producer + CONTROL)
    bell = control + PRODUCER_BELL
    prepare_to_sleep(bell)
    if not can_claim(producer, length) and load(control + CONSUMER_BELL) != CLOSED:
        futex_wait(bell, SLEEPING, limit_ns)
