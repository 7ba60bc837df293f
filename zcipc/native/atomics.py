"""The ground floor: what a processor and the kernel do for a queue in shared memory, callable from jitted code.

An address is an `int64`; a word is 64 bits and naturally aligned. `load` and `store` are atomic and *relaxed*: never torn,
never hoisted out of a loop by the compiler (an array access is: numba#1351), but they order nothing. `load_acquire`,
`store_release` and `fence` order as in C11. Symbols of libc are looked up by name, which keeps compiled code cacheable.
"""

import os
import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from zcipc.native.membarrier import NUMBER

Address = types.int64
WORD = 8  # bytes

_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_MACHINE = platform.machine()
# On Arm `isb`, as in Rust's standard library: `yield` does nothing on most cores.
_PAUSE = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.isb", (15,))}[_MACHINE]
_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}[_MACHINE]
_SYS_PIDFD_OPEN = 434  # the same on every architecture, like all system calls since Linux 5.1
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1  # without FUTEX_PRIVATE_FLAG: the sleepers are in another process
_CLOCK_MONOTONIC = 1
_NS_PER_S = 1_000_000_000

_POLLIN = 1
_PATH_BYTES = 64


def _word_at(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, _I64.as_pointer())


def _external(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _timespec(builder: ir.IRBuilder, nanoseconds: ir.Value) -> ir.Value:
    """A `struct timespec` on the stack, in the entry block, so that a loop does not grow the stack."""
    spec = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
    for index, value in enumerate((builder.sdiv(nanoseconds, _I64(_NS_PER_S)), builder.srem(nanoseconds, _I64(_NS_PER_S)))):
        builder.store(value, cgutils.gep_inbounds(builder, spec, 0, index))
    return builder.ptrtoint(spec, _I64)


def _clock(builder: ir.IRBuilder) -> ir.Value:
    spec = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
    clock_gettime = _external(builder, "clock_gettime", _I32, _I32, _I64)
    builder.call(clock_gettime, [_I32(_CLOCK_MONOTONIC), builder.ptrtoint(spec, _I64)])
    seconds, nanoseconds = (builder.load(cgutils.gep_inbounds(builder, spec, 0, index)) for index in (0, 1))
    return builder.add(builder.mul(seconds, _I64(_NS_PER_S)), nanoseconds)


def _load(ordering: str) -> Any:
    def implementation(_context: Any, address: Any) -> Any:
        def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
            return builder.load_atomic(_word_at(builder, arguments[0]), ordering, WORD, typ=_I64)

        return types.int64(types.int64), codegen

    return implementation


def _store(ordering: str) -> Any:
    def implementation(_context: Any, address: Any, value: Any) -> Any:
        def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
            builder.store_atomic(arguments[1], _word_at(builder, arguments[0]), ordering, WORD)
            return _target.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return implementation


load = intrinsic(_load("monotonic"))
load_acquire = intrinsic(_load("acquire"))
store = intrinsic(_store("monotonic"))
store_release = intrinsic(_store("release"))


@intrinsic
def memcpy(_context: Any, destination: Any, source: Any, length: Any) -> Any:
    """Copy `length` bytes. Known to LLVM as what it is, so that a constant length becomes a few moves."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        to, source, count = arguments
        pointers = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in (to, source))
        cgutils.raw_memcpy(builder, *pointers, count, 1)
        return _target.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def compare_exchange(_context: Any, address: Any, expected: Any, new: Any) -> Any:
    """Write `new` where `expected` stands, sequentially consistent; the value found there."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        where, old, replacement = arguments
        pair = builder.cmpxchg(_word_at(builder, where), old, replacement, "seq_cst", "seq_cst")
        return builder.extract_value(pair, 0)

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def fence(_context: Any) -> Any:
    """Full barrier: no access moves across it, not even a later load before an earlier store."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
        builder.fence("seq_cst")
        return _target.get_dummy_value()

    return types.void(), codegen


@intrinsic
def compiler_fence(_context: Any) -> Any:
    """Order for the compiler alone, no instruction: the near half of a barrier whose far half is `membarrier`."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
        builder.fence("seq_cst", targetscope="singlethread")
        return _target.get_dummy_value()

    return types.void(), codegen


@intrinsic
def pause(_context: Any) -> Any:
    """Tell the core that this is a spin loop."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
        name, operands = _PAUSE
        builder.call(_external(builder, name, ir.VoidType(), *[_I32] * len(operands)), [_I32(value) for value in operands])
        return _target.get_dummy_value()

    return types.void(), codegen


@intrinsic
def clock(_context: Any) -> Any:
    """CLOCK_MONOTONIC in ns: one clock for all processes of a machine."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
        return _clock(builder)

    return types.int64(), codegen


@intrinsic
def futex_wait(_context: Any, address: Any, expected: Any, timeout_ns: Any) -> Any:
    """Sleep while the low half of the word at `address` is `expected`: until woken, for `timeout_ns` at the most.

    May return early (a signal, a changed word); the caller looks again. Little-endian: the futex is the word's low half.
    """

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        address, expected, timeout = arguments
        syscall = _external(builder, "syscall", _I64, *[_I64] * 7)
        nothing = _I64(0)
        operation = _I64(_FUTEX_WAIT)
        spec = _timespec(builder, timeout)
        return builder.call(syscall, [_I64(_SYS_FUTEX), address, operation, expected, spec, nothing, nothing])

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def futex_wake(_context: Any, address: Any) -> Any:
    """Wake every sleeper on the word at `address`; their number."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        syscall = _external(builder, "syscall", _I64, *[_I64] * 7)
        nothing = _I64(0)
        everyone = _I64(0x7FFFFFFF)
        operation = _I64(_FUTEX_WAKE)
        return builder.call(syscall, [_I64(_SYS_FUTEX), arguments[0], operation, everyone, nothing, nothing, nothing])

    return types.int64(types.int64), codegen


@intrinsic
def semaphore_wait(_context: Any, semaphore: Any, timeout_ns: Any) -> Any:
    """Take 1 from the POSIX semaphore at an address; False if it is not there within `timeout_ns`, or a signal came."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        address, timeout = arguments
        taken = cgutils.alloca_once(builder, _I32)
        trywait = _external(builder, "sem_trywait", _I32, _I64)
        builder.store(builder.call(trywait, [address]), taken)
        with builder.if_then(builder.icmp_signed("!=", builder.load(taken), _I32(0))):
            deadline = _timespec(builder, builder.add(_clock(builder), timeout))
            clockwait = _external(builder, "sem_clockwait", _I32, _I64, _I32, _I64)
            builder.store(builder.call(clockwait, [address, _I32(_CLOCK_MONOTONIC), deadline]), taken)
        return builder.icmp_signed("==", builder.load(taken), _I32(0))

    return types.boolean(types.int64, types.int64), codegen


def _system_call(number: int) -> Any:
    """The code of a system call of one argument, with zeros for the others."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        syscall = _external(builder, "syscall", _I64, *[_I64] * 7)
        return builder.call(syscall, [_I64(number), arguments[0], *[_I64(0)] * 5])

    return codegen


@intrinsic
def membarrier(_context: Any, command: Any) -> Any:
    """The system call: 0, or -1 where the kernel lacks it or the command."""
    return types.int64(types.int64), _system_call(NUMBER)


@intrinsic
def pidfd_open(_context: Any, pid: Any) -> Any:
    """The system call: a descriptor that becomes readable when process `pid` ends, or -1."""
    return types.int64(types.int64), _system_call(_SYS_PIDFD_OPEN)


@intrinsic
def is_readable(_context: Any, descriptor: Any) -> Any:
    """Whether a read from `descriptor` would return at once: poll(2) without waiting."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        pollfd = cgutils.alloca_once(builder, _I64)  # int fd; short events, revents
        builder.store(builder.or_(arguments[0], _I64(_POLLIN << 32)), pollfd)
        poll = _external(builder, "poll", _I32, _I64, _I64, _I32)
        ready = builder.call(poll, [builder.ptrtoint(pollfd, _I64), _I64(1), _I32(0)])
        return builder.icmp_signed(">", ready, _I32(0))

    return types.boolean(types.int64), codegen


@intrinsic
def open_for_writing(_context: Any, pid: Any, descriptor: Any) -> Any:
    """Open what descriptor `descriptor` of process `pid` stands for, once more and to write to; a descriptor, or -1."""

    def codegen(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        path = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), _PATH_BYTES))
        pattern = context.insert_const_string(builder.module, "/proc/%ld/fd/%ld")
        text = ir.IntType(8).as_pointer()
        snprintf = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_I32, [text, _I64, text], var_arg=True), "snprintf"
        )
        path = builder.bitcast(path, text)
        builder.call(snprintf, [path, _I64(_PATH_BYTES), pattern, *arguments])
        opening = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, [text, _I32], var_arg=True), "open")
        return builder.sext(builder.call(opening, [path, _I32(os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)]), _I64)

    return types.int64(types.int64, types.int64), codegen


read_descriptor = types.ExternalFunction("read", types.int64(types.int32, types.int64, types.int64))
write_descriptor = types.ExternalFunction("write", types.int64(types.int32, types.int64, types.int64))
close_descriptor = types.ExternalFunction("close", types.int32(types.int32))
control_descriptor = types.ExternalFunction("fcntl", types.int32(types.int32, types.int32))
kill = types.ExternalFunction("kill", types.int32(types.int32, types.int32))
