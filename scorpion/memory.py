"""A word that kernels have not: copy bytes as fast as the machine does."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BIT, _BYTE, _LONG = (ir.IntType(bits) for bits in (1, 8, 64))


def _copy(context: Any, to: Any, of: Any, size: Any) -> Any:
    """Inside a kernel: `copy(to, of, size)` copies bytes between addresses that do not overlap."""

    def generate(context_: Any, b: Any, _: Any, arguments: Any) -> Any:
        name, pointer = "llvm.memcpy.p0.p0.i64", ir.PointerType(_BYTE)
        kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, _LONG, _BIT])
        copied = b.module.globals.get(name) or ir.Function(b.module, kind, name)
        to, of = (b.inttoptr(address, pointer) for address in arguments[:2])
        b.call(copied, [to, of, arguments[2], ir.Constant(_BIT, 0)])
        return context_.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


copy: Any = intrinsic(_copy)
