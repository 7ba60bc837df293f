"""The loops that are measured: both sides of each experiment, compiled for every type of end, and the same interpreted.

A loop returns how many messages arrived torn or out of order; times go into arrays, in ns.
"""

import time

from zcipc.lab.harness.payload import fill, is_whole, stamp_of
from zcipc.lab.transports import InterpretedEnd, receive, release, room, send
from zcipc.native.atomics import clock, compiler_fence
from zcipc.native.compiled import jit


@jit
def post(end, length, stamp):
    """Write a message and send it."""
    fill(room(end, length), length, stamp)
    send(end, length)


@jit
def take(end, length, stamp):
    """Receive a message, read all of it, release it; 0, or 1 if it was not `stamp` throughout."""
    failed = not is_whole(receive(end, length), length, stamp)
    release(end, length)
    return failed


@jit
def ping(end, length, rounds, elapsed):
    """Blocks of `rounds` round trips, timed from outside: one total for each element of `elapsed`."""
    failures = stamp = 0
    for block in range(len(elapsed)):
        start = clock()
        for _ in range(rounds):
            stamp += 1
            post(end, length, stamp)
            failures += take(end, length, stamp)
        elapsed[block] = clock() - start
    return failures


@jit
def ping_each(end, length, samples):
    """One round trip for each element of `samples`, timed one by one."""
    failures = 0
    for index in range(len(samples)):
        start = clock()
        post(end, length, index)
        failures += take(end, length, index)
        samples[index] = clock() - start
    return failures


@jit
def pong(end, length, rounds, first_stamp):
    """Receive each message, read it, and send it back written anew."""
    failures = 0
    for stamp in range(first_stamp, first_stamp + rounds):
        failures += take(end, length, stamp)
        post(end, length, stamp)
    return failures


@jit
def inject(end, length, volume):
    """Send `volume` messages as fast as the transport takes them; the time of the first."""
    start = clock()
    for stamp in range(volume):
        post(end, length, stamp)
    return start


@jit
def absorb(end, length, volume):
    """Receive `volume` messages and read them; failures, and the time of the last."""
    failures = 0
    for stamp in range(volume):
        failures += take(end, length, stamp)
    return failures, clock()


@jit
def write_and_read(buffer, length, volume):
    """The slower of writing `volume` messages and reading them, by one core in its own memory: no stream can be faster."""
    start = clock()
    for stamp in range(volume):
        fill(buffer, length, stamp)
        compiler_fence()
    written = clock()
    failures = 0
    for _ in range(volume):
        failures += not is_whole(buffer, length, volume - 1)
        compiler_fence()
    return failures, max(written - start, clock() - written)


@jit
def pace(end, length, period, count):
    """Send a message every `period` ns, stamped with the time it was *meant* to go; how many went a whole period late."""
    late = 0
    intended = clock() + period
    for _ in range(count):
        while clock() < intended:
            pass
        late += clock() - intended > period
        post(end, length, intended)
        intended += period
    return late


@jit
def observe(end, length, latencies):
    """Receive paced messages; the time from each one's stamp until all of it has been read."""
    failures = 0
    for index in range(len(latencies)):
        address = receive(end, length)
        stamp = stamp_of(address)
        failures += not is_whole(address, length, stamp)
        latencies[index] = clock() - stamp
        release(end, length)
    return failures


class Interpreted:
    """The same loops in plain Python over an `InterpretedEnd`. `length` is the transport's and is ignored."""

    @staticmethod
    def ping(end: InterpretedEnd, _length, rounds, elapsed):
        failures = stamp = 0
        for block in range(len(elapsed)):
            start = time.monotonic_ns()
            for _ in range(rounds):
                stamp += 1
                end.send(stamp)
                failures += not end.receive(stamp)
            elapsed[block] = time.monotonic_ns() - start
        return failures

    @staticmethod
    def ping_each(end: InterpretedEnd, _length, samples):
        failures = 0
        for index in range(len(samples)):
            start = time.monotonic_ns()
            end.send(index)
            failures += not end.receive(index)
            samples[index] = time.monotonic_ns() - start
        return failures

    @staticmethod
    def pong(end: InterpretedEnd, _length, rounds, first_stamp):
        failures = 0
        for stamp in range(first_stamp, first_stamp + rounds):
            failures += not end.receive(stamp)
            end.send(stamp)
        return failures

    @staticmethod
    def inject(end: InterpretedEnd, _length, volume):
        start = time.monotonic_ns()
        for stamp in range(volume):
            end.send(stamp)
        return start

    @staticmethod
    def absorb(end: InterpretedEnd, _length, volume):
        failures = 0
        for stamp in range(volume):
            failures += not end.receive(stamp)
        return failures, time.monotonic_ns()

    @staticmethod
    def pace(end: InterpretedEnd, _length, period, count):
        late = 0
        intended = time.monotonic_ns() + period
        for _ in range(count):
            while time.monotonic_ns() < intended:
                pass
            late += time.monotonic_ns() - intended > period
            end.send(intended)
            intended += period
        return late

    @staticmethod
    def observe(end: InterpretedEnd, _length, latencies):
        failures = 0
        for index in range(len(latencies)):
            stamp = end.receive_stamp()
            latencies[index] = time.monotonic_ns() - stamp
            failures += stamp < 0
        return failures
