"""A lock in shared memory that outlives whoever holds it: the word says who that is.

An uncontended lock, and an unlock, is one compare-exchange. A waiter spins shortly and then sleeps on the word; it marks it
first, so that the holder knows whom to wake. When it has slept for a slice and the word is the same, it looks whether the
holder lives, and if not takes the lock over and repairs what the dead one left.

Why not the robust mutex of glibc: the kernel finds it through pointers in the shared memory, which a process gone wild can
spoil, and the kernel or glibc would then write wherever they point.
"""

from zcipc.memory.peer import Identity
from zcipc.native.atomics import compare_exchange, futex_wait, futex_wake, load, pause, store_release
from zcipc.native.compiled import jit, jit_inline

FREE = 0
_WAITED = 1  # somebody sleeps on the word
_PID_BITS = 22  # the most that Linux has
_PID_SHIFT = 1
_START_SHIFT = _PID_SHIFT + _PID_BITS
_START_BITS = 40  # of clock ticks: 348 years
_LOOKS = 100  # before a sleep: a small item is copied in less


def lock_word(holder: Identity) -> int:
    """What the word of a lock is while `holder` has it."""
    return (holder.start_time % (1 << _START_BITS)) << _START_SHIFT | holder.pid << _PID_SHIFT


def holder_of(word: int, namespace: int) -> Identity:
    """Who has the lock whose word is `word`; all who use it are of one pid namespace."""
    return Identity(word >> _PID_SHIFT & ((1 << _PID_BITS) - 1), word >> _START_SHIFT, namespace)


@jit_inline
def lock(word, me):
    """Take the lock, after a short spin at most; whether it was free. Between threads of one process, too."""
    if compare_exchange(word, FREE, me) == FREE:
        return True
    return _lock_spinning(word, me)


@jit
def _lock_spinning(word, me):
    for _ in range(_LOOKS):
        if load(word) == FREE and compare_exchange(word, FREE, me) == FREE:
            return True
        pause()
    return False


@jit_inline
def unlock(word, me):
    """Give back the lock that `me` has."""
    if compare_exchange(word, me, FREE) != me:  # marked: that is all others may do to it
        _unlock_waking(word)


@jit
def _unlock_waking(word):
    store_release(word, FREE)  # RELEASE pairs with the compare_exchange in lock(): what it guards before the lock
    futex_wake(word)


@jit
def await_unlock(word, limit_ns):
    """Sleep until the lock may be free, for `limit_ns` at the most. The holder seen, as a word without the mark, or FREE."""
    seen = load(word)
    if seen == FREE:
        return FREE
    marked = seen | _WAITED
    if seen == marked or compare_exchange(word, seen, marked) == seen:
        futex_wait(word, marked, limit_ns)
    return seen & ~_WAITED


@jit
def take_over(word, holder, me):
    """Take the lock from a dead `holder`; False if another did."""
    return compare_exchange(word, holder | _WAITED, me | _WAITED) == holder | _WAITED
