"""A register tile of a matrix product as vector code, for processors where library products of few rows are slow.

Libraries repack the weights in every product; with 8 rows that costs more than the product. These tiles read weights
in the layout they are trained in, so nothing is copied after an update.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["LANES", "bits_to_float", "fused", "tile"]

LANES = 8
_compiled: Any = intrinsic  # numba types what it makes by the code generator's parameters, not by the call's


def tile(outs: int, vecs: int) -> Any:
    """Return compiled code for ``y[a, v] (+)= sum_i w[a, i] x[i, v]``, a in ``outs`` rows, v in ``vecs`` x 8 lanes.

    Called as ``(x, sx, gap, w, sw, n, y, sy, ygap, add)``: addresses of float32 (bytes) and strides (elements).
    ``sx`` steps i in x, ``gap`` goes to the next 8 lanes of x, ``sw`` and ``sy`` to the next row of w and y, ``ygap``
    to the next 8 lanes of y; ``n`` is at least 1. Sums run over i in order, whatever the tile: a lane's result does not
    depend on its neighbours.
    """

    @_compiled
    def micro(_typing, x, sx, gap, w, sw, n, y, sy, ygap, add):  # type: ignore[no-untyped-def]
        signature = types.void(*[types.intp] * 9, types.boolean)

        def generate(context: Any, b: Any, _signature: Any, args: Any) -> Any:
            _emit(b, args, outs, vecs)
            return context.get_dummy_value()

        return signature, generate

    return micro


def _emit(b: Any, args: Any, outs: int, vecs: int) -> None:
    """Write the loop over i with ``outs * vecs`` accumulators in registers, then the stores."""
    word, lane, size = ir.FloatType(), ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(word, LANES)
    nothing = ir.Constant(vector, ir.Undefined)
    fma = b.module.declare_intrinsic(f"llvm.fma.v{LANES}f32", (), ir.FunctionType(vector, [vector] * 3))
    first, everywhere = ir.Constant(lane, 0), ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)

    def times(stride: Any, count: int) -> Any:
        return b.mul(stride, ir.Constant(size, count))

    def vector_at(address: Any) -> Any:
        return b.bitcast(address, vector.as_pointer())

    x, sx, gap, w, sw, n, y, sy, ygap, add = args
    x, w, y = (b.inttoptr(address, word.as_pointer()) for address in (x, w, y))
    before, loop, done = b.block, b.append_basic_block("sum"), b.append_basic_block("store")
    weights = [b.gep(w, [times(sw, a)]) for a in range(outs)]
    b.branch(loop)
    b.position_at_end(loop)
    i = b.phi(size)
    sums = [[b.phi(vector) for _ in range(vecs)] for _ in range(outs)]
    here = b.gep(x, [b.mul(i, sx)])
    inputs = [b.load(vector_at(b.gep(here, [times(gap, v)])), align=4) for v in range(vecs)]
    for a in range(outs):
        one = b.insert_element(nothing, b.load(b.gep(weights[a], [i])), first)
        weight = b.shuffle_vector(one, nothing, everywhere)
        for v in range(vecs):
            total = sums[a][v]
            grown = b.call(fma, [weight, inputs[v], total])
            total.add_incoming(ir.Constant(vector, [0.0] * LANES), before)
            total.add_incoming(grown, loop)
            sums[a][v] = grown
    following = b.add(i, ir.Constant(size, 1))
    i.add_incoming(ir.Constant(size, 0), before)
    i.add_incoming(following, loop)
    b.cbranch(b.icmp_signed("<", following, n), loop, done)
    b.position_at_end(done)
    for a in range(outs):
        for v in range(vecs):
            place = vector_at(b.gep(y, [b.add(times(sy, a), times(ygap, v))]))
            old = b.load(place, align=4)
            b.store(b.select(add, b.fadd(old, sums[a][v]), sums[a][v]), place, align=4)


@_compiled
def bits_to_float(_typing, bits):  # type: ignore[no-untyped-def]
    """Read the bits of an int32 as a float32."""

    def generate(_context: Any, b: Any, _signature: Any, args: Any) -> Any:
        return b.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@_compiled
def fused(_typing, factor, other, more):  # type: ignore[no-untyped-def]
    """Return ``factor * other + more`` of float32, rounded once, however the code around it is compiled."""

    def generate(_context: Any, b: Any, _signature: Any, args: Any) -> Any:
        return b.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), generate
