"""Another process, run instruction by instruction through one of its functions, with ptrace(2).

What is stepped through is the machine code that ships, not a build with hooks in it: a death can be placed between any two
instructions, and so at every atomic access and in the middle of every copy. Only x86-64 so far: a break point and the name of
the program counter are the processor's.
"""

import ctypes
import os
import platform
import signal
from collections.abc import Callable, Iterator
from typing import Any

from zcipc.lab.errors import LabError
from zcipc.lab.torture.processes import Victim

AVAILABLE = platform.machine() == "x86_64"

_TRACEME, _PEEKTEXT, _POKETEXT, _CONT, _SINGLESTEP, _GETREGS, _SETREGS, _SYSCALL = 0, 1, 4, 7, 9, 12, 13, 24
_BREAK = 0xCC  # int3


class _Registers(ctypes.Structure):
    """struct user_regs_struct of sys/user.h."""

    _fields_ = tuple(
        (name, ctypes.c_ulonglong)
        for name in (
            *(
                "r15",
                "r14",
                "r13",
                "r12",
                "rbp",
                "rbx",
                "r11",
                "r10",
                "r9",
                "r8",
                "rax",
                "rcx",
                "rdx",
                "rsi",
                "rdi",
                "orig_rax",
            ),
            *("rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
        )
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def address_of(function: Any) -> int:
    """Where the code of a built-in function lies."""
    ctypes.pythonapi.PyCFunction_GetFunction.restype = ctypes.c_void_p
    ctypes.pythonapi.PyCFunction_GetFunction.argtypes = [ctypes.py_object]
    return int(ctypes.pythonapi.PyCFunction_GetFunction(function))


class NotTraced(LabError):
    """This system does not let a process trace its child, or the child never came to the function."""


def be_traced() -> None:
    """Called by the child: its parent traces it from now on, and it stops."""
    if _libc.ptrace(_TRACEME, 0, None, None) != 0:
        raise NotTraced(f"ptrace is not allowed here: {os.strerror(ctypes.get_errno())}")
    os.kill(os.getpid(), signal.SIGSTOP)


def system_calls(victim: Victim) -> int:
    """How many system calls a victim makes from `be_traced` to its end."""
    victim.wait()
    stops = 0
    while True:
        if _libc.ptrace(_SYSCALL, victim.pid, None, None) != 0:
            raise NotTraced(f"ptrace is not allowed here: {os.strerror(ctypes.get_errno())}")
        if not os.WIFSTOPPED(victim.wait()):
            return stops // 2 + 1  # a stop before and after each, and no second one for the last
        stops += 1


class Stepper:
    """A victim that goes through `be_traced` and then calls the function at `address`, where it is stopped.

    Raises:
        NotTraced: it ended without calling it.
    """

    def __init__(self, victim: Victim, address: int) -> None:
        self._victim, self._pid = victim, victim.pid
        victim.wait()  # for be_traced()
        self._registers = _Registers()
        original = _libc.ptrace(_PEEKTEXT, self._pid, address, None) & 0xFFFF_FFFF_FFFF_FFFF
        self._request(_POKETEXT, address, (original & ~0xFF) | _BREAK)
        self._request(_CONT)
        if not self._stopped():
            raise NotTraced(f"process {self._pid} ended before it called the function at {address:#x}")
        self._request(_POKETEXT, address, original)
        self._read()
        self._registers.rip = address
        self._request(_SETREGS, 0, ctypes.addressof(self._registers))
        self._stack = self._registers.rsp
        self._return_to = _libc.ptrace(_PEEKTEXT, self._pid, self._stack, None) & 0xFFFF_FFFF_FFFF_FFFF

    def instants(self, memory: Callable[[], bytes] | None) -> Iterator[None]:
        """Stop at each instant of the function: before it, whenever what `memory()` returns has changed, and after it.

        Without `memory`, every instruction is one. How many instructions lie between two changes may differ between victims
        (the interpreter's allocator has its moods), so changes are what two victims of the same past have in common.
        """
        before = memory() if memory else b""
        yield
        inside = True
        while inside:
            inside = self.step()
            after = memory() if memory else b""
            if memory is None or after != before or not inside:
                yield
            before = after

    def step(self) -> bool:
        """Run one instruction; whether the process is still inside the function."""
        self._request(_SINGLESTEP)
        if not self._stopped():
            return False
        self._read()
        return not (self._registers.rip == self._return_to and self._registers.rsp > self._stack)

    def _read(self) -> None:
        self._request(_GETREGS, 0, ctypes.addressof(self._registers))

    def _stopped(self) -> bool:
        """Wait until it stops by a break point or a step, letting other signals through; False if it ends."""
        while True:
            status = self._victim.wait()
            if not os.WIFSTOPPED(status):
                return False
            if os.WSTOPSIG(status) == signal.SIGTRAP:
                return True
            self._request(_CONT, 0, os.WSTOPSIG(status))

    def _request(self, request: int, address: int = 0, data: int = 0) -> None:
        if _libc.ptrace(request, self._pid, address, data) != 0:
            raise NotTraced(f"ptrace request {request} failed: {os.strerror(ctypes.get_errno())}")
