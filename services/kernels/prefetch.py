"""An instruction that numba has no name for: asks the processor for a line of memory, without waiting for it."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

_array_of: Any = make_array
_function: Any = cgutils.get_or_insert_function


def _prefetch(typing: Any, values: Any, at: Any) -> Any:
    """Inside a kernel: `prefetch(values, at)` begins to load values[at]. An `at` out of range does no harm."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = _array_of(signature.args[0])(context, builder, arguments[0])
        return _asked(context, builder, builder.gep(array.data, [arguments[1]]))

    return types.void(values, types.int64), generate


def _prefetch_address(typing: Any, address: Any) -> Any:
    """Inside a kernel: `prefetch_address(address)` begins to load the line that has this address. Any does no harm."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return _asked(context, builder, builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))

    return types.void(types.intp), generate


def _asked(context: Any, builder: Any, pointer: Any) -> Any:
    address = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
    function = _function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [address, flag(0), flag(3), flag(1)])  # to read, keep in every cache, of data
    return context.get_dummy_value()


prefetch: Any = intrinsic(_prefetch)
prefetch_address: Any = intrinsic(_prefetch_address)
