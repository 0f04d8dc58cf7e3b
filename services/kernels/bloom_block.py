"""The eight words of a bloom filter's block in one vector: the compiler does not find it in a loop over eight words.

A key sets bit `low * SALTS[i] >> 27` (uint32 arithmetic) of word i; both functions are for use inside kernels. The
compiler unrolls a loop of eight before it looks for vectors, and then works word by word: four times as long.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

WORDS = 8  # uint32 words of a block
#: One odd multiplier a word, from the Parquet format's BloomFilter.md.
SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)

_array_of: Any = make_array
_function: Any = cgutils.get_or_insert_function
_WORD = ir.IntType(32)
_BLOCK = ir.VectorType(_WORD, WORDS)


def _each(values: Any) -> Any:
    return ir.Constant(_BLOCK, [ir.Constant(_WORD, value) for value in values])


def _block_and_bits(context: Any, builder: Any, signature: Any, arguments: Any) -> tuple[Any, Any, Any]:
    """(address of the block, its words, the key's bits)."""
    array = _array_of(signature.args[0])(context, builder, arguments[0])
    address = builder.bitcast(builder.gep(array.data, [arguments[1]]), _BLOCK.as_pointer())
    one = builder.insert_element(ir.Constant(_BLOCK, ir.Undefined), arguments[2], ir.Constant(_WORD, 0))
    low = builder.shuffle_vector(one, one, ir.Constant(_BLOCK, [ir.Constant(_WORD, 0)] * WORDS))
    bit = builder.lshr(builder.mul(low, _each(SALTS)), _each([27] * WORDS))
    return address, builder.load(address, align=4), builder.shl(_each([1] * WORDS), bit)


def _block_holds(typing: Any, words: Any, first: Any, low: Any) -> Any:
    """Whether the block that begins at words[first] (uint32[8 * blocks]) has all bits of `low` (uint32)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, block, bits = _block_and_bits(context, builder, signature, arguments)
        missing = builder.and_(bits, builder.not_(block))
        kind = ir.FunctionType(_WORD, [_BLOCK])
        some = _function(builder.module, kind, "llvm.vector.reduce.or.v8i32")
        return builder.icmp_unsigned("==", builder.call(some, [missing]), ir.Constant(_WORD, 0))

    return types.boolean(words, types.int64, types.uint32), generate


def _block_add(typing: Any, words: Any, first: Any, low: Any) -> Any:
    """Set all bits of `low` (uint32) in the block that begins at words[first]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, block, bits = _block_and_bits(context, builder, signature, arguments)
        builder.store(builder.or_(block, bits), address, align=4)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.uint32), generate


block_holds: Any = intrinsic(_block_holds)
block_add: Any = intrinsic(_block_add)
