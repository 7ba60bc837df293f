"""Every error of the package. Each says what happened, to whom, and what to do.

Where the standard library has a class that programs already catch for the same event, ours derives from it.
"""

import multiprocessing
import pickle


class ZcipcError(Exception):
    """Base of all errors of this package."""


class PermissionDenied(ZcipcError, PermissionError):
    """The calling process is not one of the two that this connection binds."""


class MessageTooLarge(ZcipcError, ValueError):
    """The message can never fit, however long one waits."""


class TimedOut(ZcipcError, TimeoutError):
    """The time-out passed first. Nothing was sent or received."""


class Closed(ZcipcError, EOFError, BrokenPipeError):
    """An end was closed: this one, or the other one after everything it had sent was received."""


class PeerDied(Closed):
    """The process at the other end ended without closing; what it had sent was delivered first."""


class BufferTooShort(ZcipcError, multiprocessing.BufferTooShort, OSError):
    """The message is longer than the receiver would take. It is received all the same: `args[0]`."""


class WrongDirection(ZcipcError, OSError):
    """The connection has one direction, and this is the other one."""


class PickleRefused(ZcipcError, pickle.PickleError):
    """A pickle, on a connection that was made with `allow_pickle=False`. It was not looked into."""


class LoanOpen(ZcipcError, RuntimeError):
    """A message is still being written or read in place, and the call would have to go past it."""


class InvalidSegment(ZcipcError):
    """The shared memory is not what it should be. Base of the three ways in which it is not."""


class CorruptSegment(InvalidSegment):
    """A word in shared memory has a value that no correct peer writes."""


class ForeignSegment(InvalidSegment):
    """The segment was not made by this package."""


class VersionMismatch(InvalidSegment):
    """The segment has a layout of another version of this package."""


class NameNotFound(ZcipcError, FileNotFoundError):
    """Nobody listens under this name, or the segment is gone."""


class NameTaken(ZcipcError, FileExistsError):
    """The name is in use."""


class OutOfSharedMemory(ZcipcError, MemoryError):
    """`/dev/shm` has no room for the segment."""


class OutOfDescriptors(ZcipcError, OSError):
    """This process, or the system, has as many files open as it may."""
