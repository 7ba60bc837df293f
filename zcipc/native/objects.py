"""A Python buffer as the argument of compiled code: its address and its length.

Numba's own conversions allocate and count references; a message of a few bytes would cost more at the border than in the
queue. These types do the least that is correct.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_PY_BUFFER_WORDS = 10  # sizeof(Py_buffer) on 64-bit CPython; its first three words are buf, obj, len
_PYBUF_SIMPLE, _PYBUF_WRITABLE = 0, 1


class BufferType(types.Type):
    """An argument with the buffer interface, contiguous; in compiled code, its address and its length in bytes."""

    def __init__(self, writable: bool) -> None:
        self.writable = writable
        super().__init__(name=f"Buffer({writable=})")


readable_buffer = BufferType(writable=False)
writable_buffer = BufferType(writable=True)


@register_model(BufferType)
class _BufferModel(models.StructModel):
    def __init__(self, manager: Any, numba_type: BufferType) -> None:
        super().__init__(manager, numba_type, [("address", types.int64), ("length", types.int64)])


def _field(name: str) -> Any:
    def implementation(_context: Any, buffer: Any) -> Any:
        if not isinstance(buffer, BufferType):
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            return getattr(cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]), name)

        return types.int64(buffer), codegen

    return implementation


address_of = intrinsic(_field("address"))
length_of = intrinsic(_field("length"))


@intrinsic
def pointer(_context: Any, address: Any) -> Any:
    """An address as what `numba.carray` makes an array of."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen


@unbox(BufferType)
def _unbox_buffer(numba_type: BufferType, obj: ir.Value, c: Any) -> NativeValue:
    """Address and length of `bytes` straight from the object; of anything else through the buffer interface."""
    builder, pyapi = c.builder, c.pyapi
    native = cgutils.create_struct_proxy(numba_type)(c.context, builder)
    view = cgutils.alloca_once_value(builder, ir.Constant(ir.ArrayType(_I64, _PY_BUFFER_WORDS), None))
    failed = cgutils.alloca_once_value(builder, ir.IntType(1)(0))
    words = [cgutils.gep_inbounds(builder, view, 0, index) for index in range(3)]
    get = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, [pyapi.pyobj, _I64, _I32]), "PyObject_GetBuffer")
    flags = _PYBUF_WRITABLE if numba_type.writable else _PYBUF_SIMPLE
    status = builder.call(get, [obj, builder.ptrtoint(view, _I64), _I32(flags)])
    builder.store(builder.icmp_signed("!=", status, _I32(0)), failed)
    native.address = builder.load(words[0])
    native.length = builder.load(words[2])

    def release() -> None:
        free = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [_I64]), "PyBuffer_Release")
        builder.call(free, [builder.ptrtoint(view, _I64)])

    return NativeValue(native._getvalue(), is_error=builder.load(failed), cleanup=release)
