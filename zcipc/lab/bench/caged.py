"""A million messages between two processes that the kernel kills at their first system call.

Both enter seccomp's strict mode, in which only read, write, exit and sigreturn are left, echo, and leave by the bare exit: the
C library's would call exit_group. Neither ever needs the kernel, for both poll. A third process proves that the cage is locked:
it makes a system call that does nothing, and dies of it.

On x86-64 strict mode takes the time-stamp counter away too, so that reading the clock kills as well. The loops therefore poll
by themselves, with the calls that never wait.
"""

import os
import platform
import signal
from collections.abc import Callable, Sequence

import numpy as np
from numba import int64, types, void

import zcipc
from zcipc import operations as ops
from zcipc.algorithms.ring import header_length
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, own
from zcipc.lab.bench.stream import opened
from zcipc.lab.errors import LabError
from zcipc.lab.harness.launch import pin, shared_array
from zcipc.lab.harness.payload import fill, is_whole
from zcipc.native.atomics import memcpy, pause, store
from zcipc.native.compiled import entry_point, jit

MESSAGES = 1_000_000
SIZE = 64  # bytes
_PR_SET_SECCOMP, _SECCOMP_MODE_STRICT = 22, 1
_SYS_EXIT, _SYS_GETPPID = {"x86_64": (60, 110), "aarch64": (93, 173)}[platform.machine()]
_NO_CAGE = 3  # exit status

_syscall = types.ExternalFunction("syscall", int64(int64, int64))
_prctl = types.ExternalFunction("prctl", types.int32(types.int32, int64, int64, int64, int64))


class CageFailed(LabError):
    """The kernel would not lock a process in, or a locked process could still make a system call."""


@jit
def _enter_cage():
    if _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_STRICT, 0, 0, 0) != 0:
        _syscall(_SYS_EXIT, _NO_CAGE)


@jit
def _send(end, buffer):
    while ops.try_send(end, buffer, SIZE, 0) != ops.DONE:
        pause()


@jit
def _receive(end, buffer):
    header, payload = ops.peek(end)
    while header == 0:
        header, payload = ops.peek(end)
    memcpy(buffer, payload, min(header_length(header), SIZE))
    ops.skip(end, header)


@jit
def _ping(end, buffer, correct):
    """Count in `correct`, in shared memory, the messages that went over and came back as they were."""
    _enter_cage()
    for number in range(MESSAGES // 2):
        fill(buffer, SIZE, number)
        _send(end, buffer)
        fill(buffer, SIZE, -1)
        _receive(end, buffer)
        if is_whole(buffer, SIZE, number):
            store(correct, 2 * (number + 1))
    _syscall(_SYS_EXIT, 0)


@jit
def _pong(end, buffer, _correct):
    _enter_cage()
    for _ in range(MESSAGES // 2):
        _receive(end, buffer)
        _send(end, buffer)
    _syscall(_SYS_EXIT, 0)


@jit
def _call_kernel():
    _enter_cage()
    _syscall(_SYS_GETPPID, 0)
    _syscall(_SYS_EXIT, 0)


_SIDES = tuple(entry_point(side, void(int64, int64, int64)) for side in (_ping, _pong))
_prove_cage = entry_point(_call_kernel, void())


def messages() -> list[Measured]:
    """Messages that both processes got through before they ended, by themselves or by the kernel."""
    _demand_cage()
    connections = zcipc.Pipe(waiting=zcipc.Waiting.SPIN)
    correct = shared_array(1)

    def side(index: int) -> Callable[[], None]:
        def run() -> None:
            pin(index)
            buffer = np.zeros(SIZE // 8, np.int64)
            _SIDES[index](opened(connections[index]), buffer.ctypes.data, correct.ctypes.data)

        return run

    children = {_forked(side(index)) for index in range(2)}
    while children:
        pid, status = os.wait()
        children.remove(pid)
        if status != 0:
            for other in children:
                os.kill(other, signal.SIGKILL)
    return [Measured(SIZE, "messages", "1", float(correct[0]))]


def _demand_cage() -> None:
    _, status = os.waitpid(_forked(_prove_cage), 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise CageFailed(f"seccomp's strict mode does not hold here: status {os.waitstatus_to_exitcode(status)}")


def _forked(function: Callable[[], None]) -> int:
    """A child that runs `function`, which does not return."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(1)
    return pid


def _series(_effort: Effort, _peers: bool) -> Sequence[Series]:
    return [own("zcipc", "compiled", "poll", messages)]


SCENARIO = Scenario("no_system_call", "a million messages under seccomp strict mode", _series)
