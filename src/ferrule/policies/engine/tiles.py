"""A register tile of a matrix product as vector code, for processors where library products of few rows are slow.

Libraries repack the weights in every product; with 8 rows that costs more than the product. These tiles read weights
in the layout they are trained in, so nothing is copied after an update.
"""

from __future__ import annotations

import os
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

__all__ = ["LANES", "across", "bits_to_float", "fused", "tile"]


def _lanes() -> int:
    """Return how many float32 numba's processor adds and multiplies at once; 8 where its target was set by hand."""
    chosen = {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"} & set(os.environ)
    return 16 if not chosen and binding.get_host_cpu_features().get("avx512f", False) else 8


LANES = _lanes()
_WORD, _SIZE = ir.FloatType(), ir.IntType(64)
_compiled: Any = intrinsic  # numba types what it makes by the code generator's parameters, not by the call's


def tile(outs: int, vecs: int) -> Any:
    """Return compiled code for ``y[a, v] (+)= sum_i w[a, i] x[i, v]``, a in ``outs`` rows, v in ``vecs`` x ``LANES``.

    Called as ``(x, sx, gap, w, sw, n, y, sy, ygap, add)``: addresses of float32 (bytes) and strides (elements).
    ``sx`` steps i in x, ``gap`` goes to the next lanes of x, ``sw`` and ``sy`` to the next row of w and y, ``ygap``
    to the next lanes of y; ``n`` is at least 1. Sums run over i in order, whatever the tile: a lane's result does not
    depend on its neighbours.
    """

    @_compiled
    def micro(_typing, x, sx, gap, w, sw, n, y, sy, ygap, add):  # type: ignore[no-untyped-def]
        signature = types.void(*[types.intp] * 9, types.boolean)

        def generate(context: Any, b: Any, _signature: Any, args: Any) -> Any:
            x, sx, gap, *rest = args
            first = b.inttoptr(x, _WORD.as_pointer())
            _emit(b, [b.gep(first, [_times(b, gap, v)]) for v in range(vecs)], sx, outs, rest)
            return context.get_dummy_value()

        return signature, generate

    return micro


def across(pages: int, lanes: int) -> Any:
    """Return compiled code for ``y[p, v] = sum_i w[i] x[p, i, v]`` over ``pages`` pages of x, v in ``lanes``.

    Called as ``(x, numbers, size, sx, w, n, y)``: x is the address of page 0 and ``size`` the elements from a page to
    the next one, ``numbers`` the address of the pages' numbers (int64); the rest as in ``tile``. Pages of y follow each
    other. One query has few sums in each page, and a processor adds several at the same time.
    """

    @_compiled
    def micro(_typing, x, numbers, size, sx, w, n, y):  # type: ignore[no-untyped-def]
        signature = types.void(*[types.intp] * 7)

        def generate(context: Any, b: Any, _signature: Any, args: Any) -> Any:
            x, numbers, size, sx, w, n, y = args
            first = b.inttoptr(x, _WORD.as_pointer())
            number = b.inttoptr(numbers, _SIZE.as_pointer())
            starts = []
            for page in range(pages):
                start = b.gep(first, [b.mul(size, b.load(b.gep(number, [ir.Constant(_SIZE, page)])))])
                starts += [b.gep(start, [ir.Constant(_SIZE, v)]) for v in range(0, lanes, LANES)]
            nothing, gap = ir.Constant(_SIZE, 0), ir.Constant(_SIZE, LANES)
            _emit(b, starts, sx, 1, [w, nothing, n, y, nothing, gap, ir.Constant(ir.IntType(1), 0)])
            return context.get_dummy_value()

        return signature, generate

    return micro


def _times(b: Any, stride: Any, count: int) -> Any:
    return b.mul(stride, ir.Constant(_SIZE, count))


def _emit(b: Any, starts: Any, sx: Any, outs: int, args: Any) -> None:
    """Write the loop over i with one accumulator in a register per row of w and start in x, then the stores."""
    lane, vecs = ir.IntType(32), len(starts)
    vector = ir.VectorType(_WORD, LANES)
    nothing = ir.Constant(vector, ir.Undefined)
    fma = b.module.declare_intrinsic(f"llvm.fma.v{LANES}f32", (), ir.FunctionType(vector, [vector] * 3))
    first, everywhere = ir.Constant(lane, 0), ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)

    def vector_at(address: Any) -> Any:
        return b.bitcast(address, vector.as_pointer())

    w, sw, n, y, sy, ygap, add = args
    w, y = (b.inttoptr(address, _WORD.as_pointer()) for address in (w, y))
    before, loop, done = b.block, b.append_basic_block("sum"), b.append_basic_block("store")
    weights = [b.gep(w, [_times(b, sw, a)]) for a in range(outs)]
    b.branch(loop)
    b.position_at_end(loop)
    i = b.phi(_SIZE)
    sums = [[b.phi(vector) for _ in range(vecs)] for _ in range(outs)]
    here = b.mul(i, sx)
    inputs = [b.load(vector_at(b.gep(start, [here])), align=4) for start in starts]
    for a in range(outs):
        one = b.insert_element(nothing, b.load(b.gep(weights[a], [i])), first)
        weight = b.shuffle_vector(one, nothing, everywhere)
        for v in range(vecs):
            total = sums[a][v]
            grown = b.call(fma, [weight, inputs[v], total])
            total.add_incoming(ir.Constant(vector, [0.0] * LANES), before)
            total.add_incoming(grown, loop)
            sums[a][v] = grown
    following = b.add(i, ir.Constant(_SIZE, 1))
    i.add_incoming(ir.Constant(_SIZE, 0), before)
    i.add_incoming(following, loop)
    b.cbranch(b.icmp_signed("<", following, n), loop, done)
    b.position_at_end(done)
    for a in range(outs):
        for v in range(vecs):
            place = vector_at(b.gep(y, [b.add(_times(b, sy, a), _times(b, ygap, v))]))
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
