"""The loops of `kernel.py` that numba does not make of Python, in LLVM's own language: the ranks of 64 values, and which
leaf of a tree many rows end in. LLVM makes them fit whatever registers the machine has; they were laid out for those of
64 bytes.

Ranks, by the upper three bits at once and the others one by one, as binary search does (`steps` bits, at least 3;
`thresholds` is padded with infinity to 2 ** steps):

    rank = 2 ** (steps - 3) * sum(values > thresholds[j * 2 ** (steps - 3) - 1] for j in range(1, 8))
    for half in (2 ** (steps - 4), ..., 2, 1):
        rank += where(values > thresholds[rank + half - 1], half, 0)

Leaves, of `rows` rows:

    leaf = 0
    for byte in reversed(range(bytes)):                                  # the leaves of the tree, 8 at a time
        left = [0xFF] * rows                                             # a byte of leaves for each row
        for e in range(ends[tree * bytes + byte], ends[tree * bytes + byte + 1]):
            left &= where(ranks[column[e]] > rank[e], mask[e], 0xFF)     # all rows at once
        leaf = where(left != 0, 8 * byte + trailing_zeros(left), leaf)   # the lowest leaf that is left

The accumulators stay in registers, and a read of an entry serves all rows: 256 rows take half the time of four
times 64.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

NARROW, WIDE = 64, 256
LINE = 64  # bytes: ranks begin at a multiple
_BIT, _BYTE, _WORD, _LONG, _FLOAT = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_LANES, _TOP = 16, 3


def _many(kind: Any, n: int) -> Any:
    return ir.VectorType(kind, n)


def _all(kind: Any, n: int, value: Any) -> Any:
    return ir.Constant(_many(kind, n), [value] * n)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _splat(b: Any, value: Any, n: int) -> Any:
    """A vector of n times the value."""
    one = b.insert_element(ir.Constant(_many(value.type, n), ir.Undefined), value, ir.Constant(_WORD, 0))
    return b.shuffle_vector(one, one, _all(_WORD, n, 0))


def _function(module: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def _gathered(b: Any, base: Any, at: Any) -> Any:
    """The floats at base[at] of 16 indexes."""
    floats, pointers = _many(_FLOAT, _LANES), _many(ir.PointerType(_FLOAT), _LANES)
    bytes_on = b.shl(b.zext(at, _many(_LONG, _LANES)), _all(_LONG, _LANES, 2))
    where = b.inttoptr(b.add(_splat(b, base, _LANES), bytes_on), pointers)
    arguments = [pointers, _WORD, _many(_BIT, _LANES), floats]
    gather = _function(b.function.module, f"llvm.masked.gather.v{_LANES}f32.v{_LANES}p0", floats, arguments)
    return b.call(
        gather, [where, ir.Constant(_WORD, 4), _all(_BIT, _LANES, 1), ir.Constant(floats, ir.Undefined)]
    )  # fmt: skip


@intrinsic
def ranks_of(context: Any, values: Any, thresholds: Any, steps: Any, missing: Any, out: Any) -> Any:
    """uint8[64] at `out`: how many of the thresholds each value is above; `missing` for NaN.

    Addresses: values float32[64], thresholds float32[2 ** steps]. missing: uint8.
    """
    signature = types.void(types.intp, types.intp, types.intp, types.uint8, types.intp)

    def generate(context_: Any, b: Any, _: Any, arguments: Any) -> Any:
        base, steps, missing = arguments[1], arguments[2], arguments[3]
        at = b.inttoptr(arguments[0], ir.PointerType(_many(_FLOAT, _LANES)))
        out = b.inttoptr(arguments[4], ir.PointerType(_many(_BYTE, _LANES)))
        parts = range(NARROW // _LANES)
        values = [b.load(b.gep(at, [_long(i)]), align=4) for i in parts]
        none = _all(_WORD, _LANES, 0)

        rest = b.sub(steps, _long(_TOP))
        tops = [none for _ in parts]
        step = _splat(b, b.trunc(b.shl(_long(1), rest), _WORD), _LANES)
        thresholds = b.inttoptr(base, ir.PointerType(_FLOAT))
        for j in range(1, 1 << _TOP):
            pivot = _splat(b, b.load(b.gep(thresholds, [b.sub(b.shl(_long(j), rest), _long(1))])), _LANES)
            above = [b.fcmp_ordered(">", value, pivot) for value in values]
            tops = [b.add(top, b.select(is_above, step, none)) for top, is_above in zip(tops, above, strict=True)]

        entry = b.block
        halving, done = b.append_basic_block("halving"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed(">", rest, _long(0)), halving, done)
        b.position_at_end(halving)
        left, ranks = b.phi(_LONG), [b.phi(none.type) for _ in parts]
        fewer = b.sub(left, _long(1))
        half = b.shl(_long(1), fewer)
        start = b.add(base, b.shl(b.sub(half, _long(1)), _long(2)))
        step = _splat(b, b.trunc(half, _WORD), _LANES)
        above = [
            b.fcmp_ordered(">", value, _gathered(b, start, rank)) for value, rank in zip(values, ranks, strict=True)
        ]
        nexts = [b.add(rank, b.select(is_above, step, none)) for rank, is_above in zip(ranks, above, strict=True)]
        b.cbranch(b.icmp_signed(">", fewer, _long(0)), halving, done)
        left.add_incoming(rest, entry)
        left.add_incoming(fewer, halving)
        for rank, top, after in zip(ranks, tops, nexts, strict=True):
            rank.add_incoming(top, entry)
            rank.add_incoming(after, halving)

        b.position_at_end(done)
        found = [b.phi(none.type) for _ in parts]
        for i, rank in enumerate(found):
            rank.add_incoming(tops[i], entry)
            rank.add_incoming(nexts[i], halving)
        for i in parts:
            known = b.fcmp_ordered("ord", values[i], values[i])
            rank = b.select(known, b.trunc(found[i], _many(_BYTE, _LANES)), _splat(b, missing, _LANES))
            b.store(rank, b.gep(out, [_long(i)]), align=1)
        return context_.get_dummy_value()

    return signature, generate


def _exit_leaves(rows: int) -> Callable[..., Any]:
    block = _many(_BYTE, rows)
    every, none = _all(_BYTE, rows, 255), _all(_BYTE, rows, 0)

    def leaves(
        context: Any, ranks: Any, column: Any, rank: Any, mask: Any, ends: Any, tree: Any, width: Any, out: Any
    ) -> Any:
        signature = types.void(*[types.intp] * 8)

        def generate(context_: Any, b: Any, _: Any, arguments: Any) -> Any:
            pointed = (_BYTE, _WORD, _BYTE, _BYTE, _LONG)
            ranks, column, rank, mask, ends = (
                b.inttoptr(address, ir.PointerType(kind)) for address, kind in zip(arguments[:5], pointed, strict=True)
            )
            tree, width, out = arguments[5], arguments[6], b.inttoptr(arguments[7], ir.PointerType(block))

            entry = b.block
            of_byte, of_entry, found, end = (b.append_basic_block(name) for name in ("byte", "entry", "found", "end"))
            first = b.mul(tree, width)
            b.branch(of_byte)

            b.position_at_end(of_byte)
            bytes_left, leaf = b.phi(_LONG), b.phi(block)
            byte = b.sub(bytes_left, _long(1))
            at = b.add(first, byte)
            start, stop = b.load(b.gep(ends, [at])), b.load(b.gep(ends, [b.add(at, _long(1))]))
            b.cbranch(b.icmp_signed("<", start, stop), of_entry, found)

            b.position_at_end(of_entry)
            e, left = b.phi(_LONG), b.phi(block)
            row = b.mul(b.sext(b.load(b.gep(column, [e])), _LONG), _long(rows))
            values = b.load(b.bitcast(b.gep(ranks, [row]), ir.PointerType(block)), align=LINE)
            above = b.icmp_unsigned(">", values, _splat(b, b.load(b.gep(rank, [e])), rows))
            still = b.and_(left, b.select(above, _splat(b, b.load(b.gep(mask, [e])), rows), every))
            next_e = b.add(e, _long(1))
            b.cbranch(b.icmp_signed("<", next_e, stop), of_entry, found)
            for phi, begun, went_on in ((e, start, next_e), (left, every, still)):
                phi.add_incoming(begun, of_byte)
                phi.add_incoming(went_on, of_entry)

            b.position_at_end(found)
            remain = b.phi(block)
            remain.add_incoming(every, of_byte)
            remain.add_incoming(still, of_entry)
            zeros = _function(b.function.module, f"llvm.cttz.v{rows}i8", block, [block, _BIT])
            lowest = b.call(zeros, [remain, ir.Constant(_BIT, 0)])
            here = b.add(lowest, _splat(b, b.trunc(b.shl(byte, _long(3)), _BYTE), rows))
            best = b.select(b.icmp_unsigned("!=", remain, none), here, leaf)
            b.cbranch(b.icmp_signed(">", byte, _long(0)), of_byte, end)
            for phi, begun, went_on in ((bytes_left, width, byte), (leaf, none, best)):
                phi.add_incoming(begun, entry)
                phi.add_incoming(went_on, found)

            b.position_at_end(end)
            b.store(best, out, align=1)
            return context_.get_dummy_value()

        return signature, generate

    return leaves


#: uint8[rows] at `out`: the leaf of each row, of 64 or 256 rows. Addresses: ranks uint8[columns, rows] (of 64 bytes
#: alignment), column int32, rank and mask uint8, ends int64. width: bytes of leaves a tree.
exit_leaves_narrow = intrinsic(_exit_leaves(NARROW))
exit_leaves_wide = intrinsic(_exit_leaves(WIDE))
