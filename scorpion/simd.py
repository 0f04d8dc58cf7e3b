"""The one loop that numba does not make of Python: which leaf of a tree 64 rows end in, in LLVM's own language.

    leaf = 0
    for byte in reversed(range(bytes)):                                  # the leaves of the tree, 8 at a time
        left = [0xFF] * 64                                               # a byte of leaves for each of 64 rows
        for e in range(ends[tree * bytes + byte], ends[tree * bytes + byte + 1]):
            left &= where(ranks[column[e]] > rank[e], mask[e], 0xFF)     # 64 rows at once
        leaf = where(left != 0, 8 * byte + trailing_zeros(left), leaf)   # the lowest leaf that is left

The 64 accumulators stay in registers: one with AVX-512, two with AVX2. LLVM makes it fit whatever the machine has.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

ROWS = 64
_BIT, _BYTE, _WORD, _LONG = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_BLOCK = ir.VectorType(_BYTE, ROWS)
_ALL, _NONE = ir.Constant(_BLOCK, [255] * ROWS), ir.Constant(_BLOCK, [0] * ROWS)


def _splat(builder: Any, value: Any) -> Any:
    """A block of 64 times the byte."""
    one = builder.insert_element(ir.Constant(_BLOCK, ir.Undefined), value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_WORD, ROWS), [0] * ROWS))


def _trailing_zeros(module: Any) -> Any:
    name = f"llvm.cttz.v{ROWS}i8"
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(_BLOCK, [_BLOCK, _BIT]), name)


@intrinsic
def exit_leaves(
    context: Any, ranks: Any, column: Any, rank: Any, mask: Any, ends: Any, tree: Any, width: Any, out: Any
) -> Any:
    """uint8[64] at `out`: the leaf of each row. Addresses: ranks uint8[columns, 64] (of 64 bytes alignment), column
    int32, rank and mask uint8, ends int64. width: bytes of leaves a tree.
    """
    signature = types.void(*[types.intp] * 8)

    def generate(context_: Any, b: Any, _: Any, arguments: Any) -> Any:
        pointed = (_BYTE, _WORD, _BYTE, _BYTE, _LONG)
        ranks, column, rank, mask, ends = (
            b.inttoptr(address, ir.PointerType(kind)) for address, kind in zip(arguments[:5], pointed, strict=True)
        )
        tree, width, out = arguments[5], arguments[6], b.inttoptr(arguments[7], ir.PointerType(_BLOCK))

        entry = b.block
        of_byte, of_entry, found, end = (b.append_basic_block(name) for name in ("byte", "entry", "found", "end"))
        first = b.mul(tree, width)
        b.branch(of_byte)

        b.position_at_end(of_byte)
        bytes_left, leaf = b.phi(_LONG), b.phi(_BLOCK)
        byte = b.sub(bytes_left, ir.Constant(_LONG, 1))
        at = b.add(first, byte)
        start, stop = b.load(b.gep(ends, [at])), b.load(b.gep(ends, [b.add(at, ir.Constant(_LONG, 1))]))
        b.cbranch(b.icmp_signed("<", start, stop), of_entry, found)

        b.position_at_end(of_entry)
        e, left = b.phi(_LONG), b.phi(_BLOCK)
        row = b.shl(b.sext(b.load(b.gep(column, [e])), _LONG), ir.Constant(_LONG, 6))
        values = b.load(b.bitcast(b.gep(ranks, [row]), ir.PointerType(_BLOCK)), align=ROWS)
        above = b.icmp_unsigned(">", values, _splat(b, b.load(b.gep(rank, [e]))))
        still = b.and_(left, b.select(above, _splat(b, b.load(b.gep(mask, [e]))), _ALL))
        next_e = b.add(e, ir.Constant(_LONG, 1))
        b.cbranch(b.icmp_signed("<", next_e, stop), of_entry, found)
        for phi, begun, went_on in ((e, start, next_e), (left, _ALL, still)):
            phi.add_incoming(begun, of_byte)
            phi.add_incoming(went_on, of_entry)

        b.position_at_end(found)
        remain = b.phi(_BLOCK)
        remain.add_incoming(_ALL, of_byte)
        remain.add_incoming(still, of_entry)
        lowest = b.call(_trailing_zeros(b.function.module), [remain, ir.Constant(_BIT, 0)])
        here = b.add(lowest, _splat(b, b.trunc(b.shl(byte, ir.Constant(_LONG, 3)), _BYTE)))
        best = b.select(b.icmp_unsigned("!=", remain, _NONE), here, leaf)
        b.cbranch(b.icmp_signed(">", byte, ir.Constant(_LONG, 0)), of_byte, end)
        for phi, begun, went_on in ((bytes_left, width, byte), (leaf, _NONE, best)):
            phi.add_incoming(begun, entry)
            phi.add_incoming(went_on, found)

        b.position_at_end(end)
        b.store(best, out, align=1)
        return context_.get_dummy_value()

    return signature, generate
