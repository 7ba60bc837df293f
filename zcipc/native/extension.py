"""Python types and methods in machine code: what a message of a few bytes cannot afford to do in the interpreter.

Numba compiles the functions, and `ctypes` hands them to CPython through its own interface for extension types. A native type
is a struct of plain words behind the object header, so compiled code that has the address of an object has its words:

- `Handle`, a base class with one word for the address of what the object stands for;
- `Block`, a base class for what a `with` block is entered by, with words for its message;
- `window_type`, a part of memory that Python sees through the buffer interface;
- `open_view` and `close_view`, for a `memoryview` that serves one message after the other;
- `entry`, a compiled function that the interpreter calls;
- `accelerate`, which puts a compiled function in front of a Python method: it does the common case, or else calls the method.

Source of the numbers and layouts: Include/typeslots.h, methodobject.h, structmember.h, object.h, cpython/bytesobject.h and
cpython/memoryobject.h of CPython 3.11 to 3.13.
"""

import ctypes
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import int32, int64, types, void
from numba.core import cgutils
from numba.extending import intrinsic

from zcipc.native.atomics import WORD, load, memcpy, store
from zcipc.native.compiled import jit, jit_inline
from zcipc.native.object_code import CFunction, cfunction

OBJECT_HEADER = 2 * WORD  # reference count and type
_TYPE = 1 * WORD
_BYTES_LENGTH = OBJECT_HEADER
_BYTES_DATA = OBJECT_HEADER + 2 * WORD  # after length and hash

_BASE_TYPE = 1 << 10
_VERSION_TAG = 1 << 18
_FASTCALL_WITH_KEYWORDS = 0x0080 | 0x0002
_LONG_LONG = 17
_END_OF_SLOTS, _GETBUFFER, _MEMBERS = 0, 1, 72

_PY_BUFFER_WORDS = 10  # its first three are address, exporter, length
_PYBUF_SIMPLE = 0

get_buffer = types.ExternalFunction("PyObject_GetBuffer", int32(int64, int64, int32))
release_buffer = types.ExternalFunction("PyBuffer_Release", void(int64))
new_bytes = types.ExternalFunction("PyBytes_FromStringAndSize", int64(int64, int64))
_fill_info = types.ExternalFunction("PyBuffer_FillInfo", int32(int64, int64, int64, int64, int32, int32))
save_thread = types.ExternalFunction("PyEval_SaveThread", int64())
restore_thread = types.ExternalFunction("PyEval_RestoreThread", void(int64))
clear_error = types.ExternalFunction("PyErr_Clear", void())
_increase = types.ExternalFunction("Py_IncRef", void(int64))
_decrease = types.ExternalFunction("Py_DecRef", void(int64))
_memory_view = types.ExternalFunction("PyMemoryView_FromObject", int64(int64))
_intern = types.ExternalFunction("PyUnicode_InternFromString", int64(int64))
_call_method = types.ExternalFunction("PyObject_VectorcallMethod", int64(int64, int64, int64, int64))
_tuple_size = types.ExternalFunction("PyTuple_Size", int64(int64))
_error_occurred = types.ExternalFunction("PyErr_Occurred", int64())
_bad_argument = types.ExternalFunction("PyErr_BadArgument", int32())
_long = types.ExternalFunction("PyLong_FromLongLong", int64(int64))
_as_long = types.ExternalFunction("PyLong_AsLongLong", int64(int64))
_bool = types.ExternalFunction("PyBool_FromLong", int64(int64))
allocate = types.ExternalFunction("PyMem_Malloc", int64(int64))
free = types.ExternalFunction("PyMem_Free", void(int64))
new_list = types.ExternalFunction("PyList_New", int64(int64))
fill_list = types.ExternalFunction("PyList_SetItem", int32(int64, int64, int64))
list_size = types.ExternalFunction("PyList_Size", int64(int64))
list_item = types.ExternalFunction("PyList_GetItem", int64(int64, int64))
tuple_item = types.ExternalFunction("PyTuple_GetItem", int64(int64, int64))
int_value = types.ExternalFunction("PyLong_AsLongLong", int64(int64))
_append = types.ExternalFunction("PyList_Append", int32(int64, int64))
_new_tuple = types.ExternalFunction("PyTuple_New", int64(int64))
_fill_tuple = types.ExternalFunction("PyTuple_SetItem", int32(int64, int64, int64))


# --- for compiled code


def _pointer(make: Callable[[Any, ir.IRBuilder], ir.Value]) -> Any:
    """A compiled function of no arguments: the address that `make` emits code for."""

    def implementation(_context: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
            return builder.ptrtoint(make(context, builder), ir.IntType(64))

        return types.int64(), codegen

    return intrinsic(implementation)


def _symbol(name: str) -> Any:
    return _pointer(lambda context, builder: context.get_c_value(builder, ir.IntType(8), name, dllimport=True))


def c_string(text: str) -> Any:
    """A compiled function of no arguments: the address of `text`, as C reads it."""
    return _pointer(lambda context, builder: context.insert_const_string(builder.module, text))


def stack_words(count: int) -> Any:
    """A compiled function of no arguments: the address of `count` words on the stack, all 0."""
    words = ir.ArrayType(ir.IntType(64), count)
    return _pointer(lambda _context, builder: cgutils.alloca_once_value(builder, ir.Constant(words, None)))


py_buffer = stack_words(_PY_BUFFER_WORDS)
none = _symbol("_Py_NoneStruct")
_bytes_type = _symbol("PyBytes_Type")
_long_type = _symbol("PyLong_Type")


@jit_inline
def new_reference(obj):
    """One more reference to an object."""
    _increase(obj)
    return obj


@jit_inline
def new_none():
    """A new reference to None."""
    return new_reference(none())


@jit_inline
def no_result(_nothing):
    """`new_none`, in place of what a function without a result returns."""
    return new_none()


@jit_inline
def new_int(value):
    """A new reference to an `int`, or 0 with an exception set."""
    return _long(value)


@jit_inline
def new_bool(value):
    """A new reference to True or False."""
    return _bool(int64(value))


@jit_inline
def as_it_is(obj):
    """In place of a result that is an object already."""
    return obj


@jit
def new_tuple(items):
    """A new tuple of references, which it takes over, or 0 with an exception set: also if one of them is 0."""
    made, complete = _new_tuple(len(items)), True
    for place in range(len(items)):
        complete = complete and items[place] != 0
        if made != 0:
            _fill_tuple(made, place, items[place])
        else:
            drop_reference(items[place])
    if complete or made == 0:
        return made
    _decrease(made)
    return 0


@jit
def append_pair(items, number, obj):
    """Append `(number, obj)` to a list, which takes over the reference to `obj`; False if there is no memory."""
    pair = new_tuple((_long(number), obj))
    appended = pair != 0 and _append(items, pair) == 0
    drop_reference(pair)
    return appended


@jit_inline
def drop_reference(obj):
    """One reference less to `obj`, if it is not 0."""
    if obj != 0:
        _decrease(obj)


@jit_inline
def is_bytes(obj):
    """Whether an object is a `bytes`, and no subclass of it."""
    return load(obj + _TYPE) == _bytes_type()


@jit_inline
def data_of_bytes(obj):
    """Address and length of the data of a `bytes`."""
    return obj + _BYTES_DATA, load(obj + _BYTES_LENGTH)


@jit_inline
def data_of(obj):
    """Address and length of the data of a `bytes` or of a contiguous buffer, which somebody has to keep for as long."""
    if is_bytes(obj):
        return data_of_bytes(obj)
    buffer = py_buffer()
    get_buffer(obj, buffer, 0)
    address, length = load(buffer), load(buffer + 2 * WORD)
    release_buffer(buffer)
    return address, length


@jit_inline
def length_from(obj):
    """The value of an `int`; below zero for one that is too large, and for every other object."""
    if load(obj + _TYPE) != _long_type():
        return -1
    value = _as_long(obj)
    if value == -1:
        clear_error()
    return value


@jit_inline
def references(obj):
    """How many references there are to an object."""
    return load(obj)


@jit_inline
def set_slot(obj, slot, value):
    """Let the slot of an object, at an offset, hold a new reference to `value` in place of what it held."""
    before = load(obj + slot)
    store(obj + slot, new_reference(value))
    drop_reference(before)


@jit_inline
def clear_slot(obj, slot):
    """Empty the slot of an object, as `del` does."""
    before = load(obj + slot)
    store(obj + slot, 0)
    drop_reference(before)


@jit
def call_method(name, obj, arguments, count, keywords):
    """`getattr(obj, name)(...)` with the arguments of a native method; a new reference, or 0 with an exception set."""
    total = count + (0 if keywords == 0 else _tuple_size(keywords))
    vector = allocate((1 + total) * WORD)
    store(vector, obj)
    memcpy(vector + WORD, arguments, total * WORD)
    method = _intern(name)
    result = _call_method(method, vector, 1 + count, keywords)
    _decrease(method)
    free(vector)
    return result


@jit
def only_keyword(keywords, name):
    """Whether `name` is the one keyword of a call. Both are interned."""
    interned = _intern(name)
    _decrease(interned)
    return _tuple_size(keywords) == 1 and tuple_item(keywords, 0) == interned


# --- types


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("basic_size", ctypes.c_int),
        ("item_size", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    )


class _Member(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Method(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_kept: list[Any] = []  # what CPython points to for ever

_type_from_spec = ctypes.pythonapi.PyType_FromSpec
_type_from_spec.restype, _type_from_spec.argtypes = ctypes.py_object, [ctypes.POINTER(_Spec)]
_new_method_descriptor = ctypes.pythonapi.PyDescr_NewMethod
_new_method_descriptor.restype = ctypes.py_object
_new_method_descriptor.argtypes = [ctypes.py_object, ctypes.POINTER(_Method)]

_new_function = ctypes.pythonapi.PyCFunction_NewEx
_new_function.restype, _new_function.argtypes = ctypes.py_object, [ctypes.POINTER(_Method), ctypes.c_void_p, ctypes.c_void_p]


def _new_type(name: str, words: tuple[str, ...], slots: dict[int, int]) -> type:
    """A type whose objects hold `words`, readable and writable as attributes; `slots` are addresses of compiled functions."""
    members = (_Member * (len(words) + 1))(
        *(_Member(word.encode(), _LONG_LONG, OBJECT_HEADER + index * WORD, 0, None) for index, word in enumerate(words))
    )
    filled = {_MEMBERS: ctypes.addressof(members)} | slots
    slot_array = (_Slot * (len(filled) + 1))(*(_Slot(*item) for item in filled.items()), _Slot(_END_OF_SLOTS, None))
    size = OBJECT_HEADER + len(words) * WORD
    spec = _Spec(f"{__name__}.{name}".encode(), size, 0, _BASE_TYPE | _VERSION_TAG, slot_array)
    _kept.append((members, slot_array, spec))
    made: type = _type_from_spec(spec)
    return made


HANDLE_END = OBJECT_HEADER  # offset of the word of a Handle
HANDLE_SLOTS = OBJECT_HEADER + 1 * WORD  # where the slots of a subclass begin, which lie in the order of their names
if TYPE_CHECKING:

    class Handle:
        end: int
else:
    Handle = _new_type("Handle", ("end",), {})


# The words of a block: offsets in the object.
BLOCK_LENGTH = OBJECT_HEADER
BLOCK_TAG = OBJECT_HEADER + 1 * WORD
BLOCK_SLOTS = OBJECT_HEADER + 2 * WORD  # of a subclass
if TYPE_CHECKING:

    class Block:
        length: int
        tag: int
else:
    Block = _new_type("Block", ("length", "tag"), {})


# The words of a window: offsets in the object.
WINDOW_ADDRESS = OBJECT_HEADER
WINDOW_LENGTH = OBJECT_HEADER + 1 * WORD
WINDOW_READONLY = OBJECT_HEADER + 2 * WORD
WINDOW_POSITION = OBJECT_HEADER + 3 * WORD  # where its message lies in the queue


@cfunction(int32(int64, int64, int32))
def _window_get(window, view, flags):
    address, length = load(window + WINDOW_ADDRESS), load(window + WINDOW_LENGTH)
    return _fill_info(view, window, address, length, int32(load(window + WINDOW_READONLY)), flags)


@functools.cache
def window_type() -> type:
    """The base class of windows, with their words as attributes. Compiled when it is first wanted."""
    return _new_type("Window", ("address", "length", "readonly", "position"), {_GETBUFFER: _window_get.address})


# The words of a `memoryview` of bytes, and of the object that it shares with all views made of it: offsets in the objects.
_VIEW_SHARED = 3 * WORD
_VIEW_HASH = 4 * WORD
_VIEW_FLAGS = 5 * WORD
_VIEW_EXPORTS = 6 * WORD
_VIEW_ADDRESS = 7 * WORD
_VIEW_LENGTH = 9 * WORD
_VIEW_WEAK_REFERENCES = 17 * WORD
_VIEW_SHAPE = 18 * WORD
_SHARED_EXPORTS = 3 * WORD
_RELEASED = 1
_UNKNOWN_HASH = -1


@jit
def closed_views(exporter):
    """Two new views of one buffer of an object, both closed; or (0, 0) with an exception set."""
    first = _memory_view(exporter)
    second = 0 if first == 0 else _memory_view(first)
    if second == 0:
        drop_reference(first)
        return 0, 0
    close_view(first)
    close_view(second)
    return first, second


@jit_inline
def has_other_owners(view):
    """Whether anybody but the one who asks could see a closed `memoryview` being opened again."""
    return references(view) != 1 or load(view + _VIEW_WEAK_REFERENCES) != 0


@jit_inline
def open_view(view, address, length):
    """Let a closed `memoryview` show other bytes, as if it were a new one. All others of its buffer must be closed."""
    store(view + _VIEW_ADDRESS, address)
    store(view + _VIEW_LENGTH, length)
    store(view + _VIEW_SHAPE, length)
    store(view + _VIEW_HASH, _UNKNOWN_HASH)
    store(view + _VIEW_FLAGS, load(view + _VIEW_FLAGS) & ~_RELEASED)
    store(load(view + _VIEW_SHARED) + _SHARED_EXPORTS, 1)


@jit_inline
def is_only_view(view):
    """Whether a `memoryview` is open, the only open one of its buffer, and nothing was made over it."""
    is_released = load(view + _VIEW_FLAGS) & _RELEASED != 0
    return not is_released and load(view + _VIEW_EXPORTS) == 0 and load(load(view + _VIEW_SHARED) + _SHARED_EXPORTS) == 1


@jit_inline
def close_view(view):
    """Release the only view of a buffer as `memoryview.release` does, but keep the buffer."""
    store(view + _VIEW_FLAGS, load(view + _VIEW_FLAGS) | _RELEASED)
    store(load(view + _VIEW_SHARED) + _SHARED_EXPORTS, 0)


# --- methods

Method = int64(int64, int64, int64, int64)  # self, arguments, their count, names of those given by keyword; a reference, or 0


def entry(function: Any, arguments: str, result: Any) -> Any:
    """An attribute of a class: `function`, compiled, as the interpreter calls it; made when it is first wanted.

    Args:
        function: a jitted function of words.
        arguments: one letter for each, as for `PyArg_Parse`: O for the address of the object itself, L for an `int`.
        result: `new_int`, `new_bool`, `no_result` or `as_it_is`, which makes an object of what `function` returns.
    """
    return _Entry(function, arguments, result)


class _Entry(functools.cached_property[Any]):
    """Part of the module of its class, so that whoever uses one of those entries loads them all."""

    def __init__(self, function: Any, arguments: str, result: Any) -> None:
        super().__init__(self._make)
        expected, unpack = len(arguments), _unpack(arguments)

        def called(_self, values, count, _keywords):
            if count != expected:
                return int64(_bad_argument())
            words = unpack(values)
            if _error_occurred() != 0:
                return 0
            return result(function(*words))

        self._called = called
        self._name = function.__name__

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self._compiled = cfunction(Method, owner.__module__, f"{owner.__qualname__}.{name}")(self._called)

    def _make(self, _owner: Any) -> Any:
        definition = _Method(self._name.encode(), self._compiled.address, _FASTCALL_WITH_KEYWORDS, None)
        _kept.append(definition)
        return _new_function(definition, None, None)


def _unpack(kinds: str) -> Any:
    """A compiled function of the address of an array of objects: a tuple of one word for each."""

    def implementation(_context: Any, _values: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            word = ir.IntType(64)
            convert = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), "PyLong_AsLongLong")
            first = builder.inttoptr(arguments[0], word.as_pointer())
            words = [builder.load(builder.gep(first, [word(index)])) for index in range(len(kinds))]
            words = [builder.call(convert, [one]) if kind == "L" else one for kind, one in zip(kinds, words, strict=True)]
            return context.make_tuple(builder, signature.return_type, words)

        return types.Tuple([types.int64] * len(kinds))(types.int64), codegen

    return intrinsic(implementation)


def accelerate(owner: type, name: str, function: CFunction) -> None:
    """Put `function`, of the type `Method`, in front of the method `name` of `owner`, which becomes `_name` (`__name__` too).

    The function calls `_name` with all it was given whenever it cannot do the work at once.
    """
    method = getattr(owner, name)
    parameters = [one.replace(annotation=one.empty) for one in inspect.signature(method).parameters.values()]
    signature = str(inspect.Signature(parameters)).replace("(self", "($self", 1)
    doc = f"{name}{signature}\n--\n\n{inspect.getdoc(method)}".encode()
    definition = _Method(name.encode(), function.address, _FASTCALL_WITH_KEYWORDS, doc)
    _kept.append(definition)
    setattr(owner, f"_{name.strip('_')}", method)
    setattr(owner, name, _new_method_descriptor(owner, definition))
