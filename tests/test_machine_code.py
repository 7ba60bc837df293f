"""The machine code of the atomics and of the queue: ordered where the algorithm says so, and nowhere else.

LLVM translates the same intermediate code for both processors, whichever this machine has. In numba's calling convention a
function gets a place for its result, one for its exception, then its arguments.
"""

import platform
import re
import runpy
from types import FunctionType

import llvmlite.binding as llvm
import pytest
from numba import int64, njit, types, void

from zcipc.algorithms import ring
from zcipc.native import atomics

TARGETS = {  # processor, and what it can do beyond the least
    "x86_64": ("x86_64-unknown-linux-gnu", ""),
    "aarch64": ("aarch64-unknown-linux-gnu", ""),
    "aarch64 with LSE and RCPC": ("aarch64-unknown-linux-gnu", "+lse,+rcpc"),
}
ARMS = [name for name in TARGETS if name != "x86_64"]
ORDERED = re.compile(r"lock|xchg|mfence|lfence|sfence|dmb|dsb|isb|ld(a|ap|ax)r|st(l|lx)r|cas|call|bl\b")


@pytest.fixture(scope="module", autouse=True)
def every_target():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def translated(intermediate, name, target):
    """The instructions of function `name` in LLVM's intermediate code, one a line, blanks and remarks removed."""
    triple, features = TARGETS[target]
    module = llvm.parse_assembly(re.sub(r"^target .*$", "", intermediate, flags=re.MULTILINE))
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=3, features=features, reloc="pic", codemodel="default")
    module.triple, module.data_layout = triple, str(machine.target_data)
    body = machine.emit_assembly(module).split(f"\n{name}:\n")[1].split(".Lfunc_end")[0]
    lines = (" ".join(re.split(r"//|#(?=MEMBARRIER)", line)[0].split()) for line in body.split("\n"))
    return [line for line in lines if line and not line.endswith(":") and not line.startswith(".")]


def machine_code(function, signature, target):
    """The instructions of a Python function compiled by numba."""
    dispatcher = njit(signature, error_model="numpy")(function)
    name = dispatcher.overloads[signature.args].fndesc.llvm_func_name
    return translated(dispatcher.inspect_llvm(signature.args), name, target)


def at(address, code):
    """The instructions that access memory at an address held by a register."""
    return [line for line in code if re.search(rf"[(\[]{re.escape(address)}[)\]]", line)]


def ordered(code):
    return [line for line in code if ORDERED.match(line)]


def with_others(function, **others):
    """A function of the package, with other functions in place of those it calls by these names."""
    function = function.py_func
    return FunctionType(function.__code__, {**function.__globals__, **others}, function.__name__, function.__defaults__)


# --- the atomics


def read(address):
    return atomics.load(address)


def read_acquire(address):
    return atomics.load_acquire(address)


def write(address, value):
    atomics.store(address, value)


def write_release(address, value):
    atomics.store_release(address, value)


def exchange(address, expected, new):
    return atomics.compare_exchange(address, expected, new)


def full_barrier():
    atomics.fence()


def half_barrier():
    atomics.compiler_fence()


def nothing():
    pass


@pytest.mark.parametrize("function", [read, read_acquire])
def test_on_x86_a_load_is_a_move(function):
    code = machine_code(function, int64(int64), "x86_64")
    assert at("%rdx", code) == ["movq (%rdx), %rax"]
    assert not ordered(code)


@pytest.mark.parametrize("function", [write, write_release])
def test_on_x86_a_store_is_a_move(function):
    code = machine_code(function, void(int64, int64), "x86_64")
    assert at("%rdx", code) == ["movq %rcx, (%rdx)"]
    assert not ordered(code)


def test_on_x86_a_fence_and_an_exchange_lock():
    assert len([line for line in machine_code(full_barrier, void(), "x86_64") if re.match(r"mfence|lock orl", line)]) == 1
    code = machine_code(exchange, int64(int64, int64, int64), "x86_64")
    assert ordered(code) == at("%rdx", code) == ["lock cmpxchgq %r8, (%rdx)"]


@pytest.mark.parametrize("target", ARMS)
def test_on_arm_relaxed_accesses_are_plain(target):
    for function, signature, access in ((read, int64(int64), "ldr"), (write, void(int64, int64), "str")):
        code = machine_code(function, signature, target)
        assert [line.split()[0] for line in at("x2", code)] == [access]
        assert not ordered(code)


@pytest.mark.parametrize("target", ARMS)
def test_on_arm_acquire_and_release_are_instructions(target):
    acquired = machine_code(read_acquire, int64(int64), target)
    assert [line.split()[0] for line in ordered(acquired)] == ["ldapr" if "RCPC" in target else "ldar"]
    assert ordered(acquired) == at("x2", acquired)
    released = machine_code(write_release, void(int64, int64), target)
    assert ordered(released) == at("x2", released) == ["stlr x3, [x2]"]


@pytest.mark.parametrize("target", ARMS)
def test_on_arm_a_fence_is_a_barrier_and_an_exchange_acquires_and_releases(target):
    assert ordered(machine_code(full_barrier, void(), target)) == ["dmb ish"]
    accesses = [line.split()[0] for line in ordered(machine_code(exchange, int64(int64, int64, int64), target))]
    assert accesses == (["casal"] if "LSE" in target else ["ldaxr", "stlxr"])


@pytest.mark.parametrize("target", TARGETS)
def test_a_compiler_fence_is_no_instruction(target):
    assert machine_code(half_barrier, void(), target) == machine_code(nothing, void(), target)


@pytest.mark.parametrize(("processor", "instruction"), [("x86_64", "pause"), ("aarch64", "isb")])
def test_a_pause_is_one_instruction(processor, instruction, monkeypatch):
    """The one intrinsic that differs: numba can compile it only for the processor it runs on, LLVM for both."""
    monkeypatch.setattr(platform, "machine", lambda: processor)
    name, operands = runpy.run_path(atomics.__file__)["_PAUSE"]
    declared, passed = ", ".join("i32" for _ in operands), ", ".join(f"i32 {operand}" for operand in operands)
    text = f"declare void @{name}({declared})\n define void @wait() {{ call void @{name}({passed})\n ret void }}"
    assert translated(text, "wait", processor) == [instruction, "retq" if processor == "x86_64" else "ret"]


# --- the queue, on Arm, where order costs an instruction; x2, x3 and x4 are its arguments


def header_is_released_after_the_next_is_empty(publish):
    code = machine_code(publish, void(int64, int64, int64), "aarch64")
    assert [line.split(" [")[0] for line in ordered(code)] == ["stlr x4,"], "the header is not the one store that releases"
    before = code[: code.index(*ordered(code))]
    assert any(line.startswith("str xzr,") for line in before), "the next header is not made EMPTY before the release"


def header_is_acquired(peek):
    code = machine_code(peek, types.UniTuple(int64, 2)(int64), "aarch64")
    assert [line.split()[0] for line in ordered(code)] == ["ldar"]
    assert all("[x2" in line for line in code if re.match(r"ld[ru]", line)), "a plain load of what is not private"


def head_is_acquired(has_room):
    code = machine_code(has_room, int64(int64, int64), "aarch64")
    assert [line.split()[0] for line in ordered(code)] == ["ldar"]
    assert all("[x2" in line for line in code if re.match(r"ld[ru]", line)), "a plain load of what is not private"


def head_is_released(release_until):
    code = machine_code(release_until, void(int64, int64), "aarch64")
    assert [line.split(" [")[0] for line in ordered(code)] == ["stlr x3,"]


def empty_after_the_header(producer, size, header):
    """`publish`, with its stores in the wrong order."""
    data, mask = ring.load(producer + ring.DATA), ring.load(producer + ring.CAPACITY) - 1
    position = ring.load(producer + ring.POSITION)
    ring.store_release(data + (position & mask), header)
    ring.store(data + ((position + size) & mask), ring.EMPTY)


def gaps_are_acquired_and_their_room_released(pass_gaps):
    code = machine_code(pass_gaps, types.UniTuple(int64, 2)(int64), "aarch64")
    assert {line.split()[0] for line in ordered(code)} == {"ldar", "stlr"}
    assert all("[x2" in line for line in code if re.match(r"ld[ru]", line)), "a plain load of what is not private"


ORDER = [
    (header_is_released_after_the_next_is_empty, ring.publish, {"store_release": ring.store}),
    (header_is_acquired, ring.peek, {"load_acquire": ring.load}),
    (head_is_acquired, ring.has_room, {"load_acquire": ring.load}),
    (gaps_are_acquired_and_their_room_released, ring.pass_gaps, {"load_acquire": ring.load}),
    (head_is_released, ring.release_until, {"store_release": ring.store}),
]


@pytest.mark.parametrize(("property_holds", "function", "relaxed"), ORDER, ids=lambda item: getattr(item, "__name__", ""))
def test_the_queue_is_ordered_where_the_algorithm_says_so(property_holds, function, relaxed):
    property_holds(function.py_func)
    with pytest.raises(AssertionError):  # the same function, relaxed
        property_holds(with_others(function, **relaxed))


def test_the_wrong_order_of_stores_shows():
    with pytest.raises(AssertionError):
        header_is_released_after_the_next_is_empty(empty_after_the_header)
