"""One instruction that numba has no name for: asks the processor for the cache line of an item, without waiting for it."""

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
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        function = _function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, flag(0), flag(3), flag(1)])  # to read, keep in every cache, of data
        return context.get_dummy_value()

    return types.void(values, types.int64), generate


prefetch: Any = intrinsic(_prefetch)
