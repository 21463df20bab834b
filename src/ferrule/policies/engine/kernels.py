"""One decoder layer of a Llama-shaped model on a processor, for tokens of many sequences at once (float32).

Activations lie in panels of as many tokens as the processor has lanes, ``(P, features, LANES)``, so that every step
runs along the tokens. Keys lie in pages ``(pages, heads, D, PAGE)`` and values in ``(pages, heads, PAGE, D)``; a
token sees the pages of its own row of the page table up to its position. Tokens of one call may belong to one
sequence: all keys are written before any is read.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from ferrule.policies.engine.tiles import LANES, across, bits_to_float, fused, tile

__all__ = ["PAGE", "attend", "embed", "layer", "matmul", "normalise", "place", "rotate"]

PAGE = 16
# Promises that change no finite result. Free order of sums, which "fastmath" would allow as well, is never given: code
# read from numba's cache is not always the code that was just compiled, and both must compute the same numbers.
_ORDERED = {"nnan", "nsz"}
_12x1, _6x2, _1x1 = tile(12, 1), tile(6, 2), tile(1, 1)
_SIDE = 64
_page, _side = tile(1, PAGE // LANES), tile(1, _SIDE // LANES)
_1page, _2pages, _4pages = across(1, PAGE), across(2, PAGE), across(4, PAGE)


@njit(cache=True, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """Exponential of a float32 <= 88 (relative error below 2e-7), free of branches so that loops vectorise."""
    x = max(x, np.float32(-87.0))
    n = np.floor(fused(x, np.float32(1.44269504), np.float32(0.5)))
    r = fused(n, np.float32(2.12194440e-4), fused(n, np.float32(-0.693359375), x))
    p = np.float32(1.9875691500e-4)
    p = fused(p, r, np.float32(1.3981999507e-3))
    p = fused(p, r, np.float32(8.3334519073e-3))
    p = fused(p, r, np.float32(4.1665795894e-2))
    p = fused(p, r, np.float32(1.6666665459e-1))
    p = fused(p, r, np.float32(5.0000001201e-1))
    p = fused(p * r, r, r) + np.float32(1.0)
    return p * bits_to_float((np.int32(n) + np.int32(127)) << np.int32(23))


@njit(cache=True, nogil=True, parallel=True)
def matmul(x, w, y, add):  # type: ignore[no-untyped-def]
    """``y (+)= x w^T``: x (P, I, LANES), w (O, I), y (P, O, LANES)."""
    panels, inputs, outputs = x.shape[0], x.shape[1], w.shape[0]
    blocks, wide = outputs // 12, 4 * LANES
    at_x, at_w, at_y = x.ctypes.data, w.ctypes.data, y.ctypes.data
    for block in prange(blocks + 1):
        o = 12 * block
        if block < blocks:
            p = 0
            while p + 1 < panels:
                one = at_x + p * inputs * wide
                _6x2(one, LANES, inputs * LANES, at_w + o * inputs * 4, inputs, inputs,
                     at_y + (p * outputs + o) * wide, LANES, outputs * LANES, add)  # fmt: skip
                _6x2(one, LANES, inputs * LANES, at_w + (o + 6) * inputs * 4, inputs, inputs,
                     at_y + (p * outputs + o + 6) * wide, LANES, outputs * LANES, add)  # fmt: skip
                p += 2
            if p < panels:
                _12x1(at_x + p * inputs * wide, LANES, 0, at_w + o * inputs * 4, inputs, inputs,
                      at_y + (p * outputs + o) * wide, LANES, 0, add)  # fmt: skip
        else:
            for rest in range(o, outputs):
                for p in range(panels):
                    _1x1(at_x + p * inputs * wide, LANES, 0, at_w + rest * inputs * 4, inputs, inputs,
                         at_y + (p * outputs + rest) * wide, LANES, 0, add)  # fmt: skip


@njit(cache=True, nogil=True)
def _bias(y, bias):  # type: ignore[no-untyped-def]
    for p in range(y.shape[0]):
        for f in range(bias.shape[0]):
            for lane in range(LANES):
                y[p, f, lane] += bias[f]


@njit(cache=True, nogil=True)
def embed(ids_N, table, x):  # type: ignore[no-untyped-def]
    """Write the embeddings of tokens into panels; lanes beyond the last token are zero."""
    for n in range(x.shape[0] * LANES):
        for f in range(x.shape[1]):
            x[n // LANES, f, n % LANES] = table[ids_N[n], f] if n < len(ids_N) else np.float32(0.0)


@njit(cache=True, nogil=True, parallel=True)
def normalise(x, weight, eps, y):  # type: ignore[no-untyped-def]
    """Root mean square norm, ``y = x / sqrt(mean(x^2) + eps) * weight``, along the features of panels."""
    size = x.shape[1]
    for p in prange(x.shape[0]):
        square = np.zeros(LANES, np.float32)
        for f in range(size):
            for lane in range(LANES):
                square[lane] += x[p, f, lane] * x[p, f, lane]
        for lane in range(LANES):
            square[lane] = np.float32(1.0) / math.sqrt(square[lane] / np.float32(size) + eps)
        for f in range(size):
            for lane in range(LANES):
                y[p, f, lane] = x[p, f, lane] * square[lane] * weight[f]


@njit(cache=True, nogil=True, parallel=True)
def rotate(x, cos_N, sin_N, weight, eps, out):  # type: ignore[no-untyped-def]
    """Turn the heads of panels by their positions into ``out`` (N, heads, D); a norm per head first if there is one."""
    heads, size = out.shape[1], out.shape[2]
    half = size // 2
    for n in prange(out.shape[0]):
        p, lane = n // LANES, n % LANES
        for h in range(heads):
            scale = np.float32(1.0)
            if weight.shape[0]:
                square = np.float32(0.0)
                for d in range(size):
                    square += x[p, h * size + d, lane] * x[p, h * size + d, lane]
                scale = np.float32(1.0) / math.sqrt(square / np.float32(size) + eps)
            for d in range(half):
                low, high = x[p, h * size + d, lane] * scale, x[p, h * size + half + d, lane] * scale
                if weight.shape[0]:
                    low, high = low * weight[d], high * weight[half + d]
                out[n, h, d] = low * cos_N[n, d] - high * sin_N[n, d]
                out[n, h, half + d] = high * cos_N[n, half + d] + low * sin_N[n, half + d]


@njit(cache=True, nogil=True)
def place(key, value, pages_N, slots_N, keys, values):  # type: ignore[no-untyped-def]
    """Write the turned keys (N, heads, D) and the values (panels) of tokens into their pages."""
    size = key.shape[2]
    for n in range(key.shape[0]):
        page, slot = pages_N[n], slots_N[n]
        for h in range(key.shape[1]):
            for d in range(size):
                keys[page, h, d, slot] = key[n, h, d]
                values[page, h, slot, d] = value[n // LANES, h * size + d, n % LANES]


@njit(cache=True, inline="always")
def _scores(query, keys, step, numbers, count, size, scores):  # type: ignore[no-untyped-def]
    """Products of one query with the keys of ``count`` pages; several pages at once, whose sums do not wait in line."""
    b = 0
    while b < count:
        at, number = scores + b * PAGE * 4, numbers + b * 8
        if b + 4 <= count:
            _4pages(keys, number, step, PAGE, query, size, at)
            b += 4
        elif b + 2 <= count:
            _2pages(keys, number, step, PAGE, query, size, at)
            b += 2
        else:
            _1page(keys, number, step, PAGE, query, size, at)
            b += 1


@njit(cache=True, inline="always")
def _mix(scores, values, count, size, mixed, add):  # type: ignore[no-untyped-def]
    """Add the values (count, size) of a page, weighted by scores; as many of a head's features at once as there are."""
    d = 0
    while d < size:
        if d + _SIDE <= size:
            _side(values + d * 4, size, LANES, scores, 0, count, mixed + d * 4, 0, LANES, add)
            d += _SIDE
        else:
            _page(values + d * 4, size, LANES, scores, 0, count, mixed + d * 4, 0, LANES, add)
            d += PAGE


@njit(cache=True, fastmath=_ORDERED)
def _softmax(scores, many, length, scale, total):  # type: ignore[no-untyped-def]
    """Turn scores into ``exp(scale (s - max))`` and their sums, row by row; of whole pages, ``length`` scores count."""
    width = scores.shape[1]
    sums = np.empty(PAGE, np.float32)
    for a in range(many):
        row = scores[a]
        row[length:] = -np.inf
        top = np.float32(-np.inf)
        for j in range(length):
            top = max(top, row[j])
        for j in range(width):
            row[j] = _exp((row[j] - top) * scale)
        sums[:] = np.float32(0.0)
        for j in range(0, width, PAGE):
            for lane in range(PAGE):
                sums[lane] += row[j + lane]
        whole = np.float32(0.0)
        for lane in range(PAGE):
            whole += sums[lane]
        total[a] = whole


@njit(cache=True, nogil=True, parallel=True)
def attend(query, keys, values, table, row_N, pos_N, scale, out):  # type: ignore[no-untyped-def]
    """Attention of tokens (N, heads, D) to the pages of their rows up to their positions, into panels of heads * D."""
    tokens, heads, size = query.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    at_q, at_k, at_v = query.ctypes.data, keys.ctypes.data, values.ctypes.data
    for job in prange(kv_heads * tokens):
        h, n = job // tokens, job % tokens  # tokens that share pages follow each other: a head's pages stay close
        length = pos_N[n] + 1
        width = (length + PAGE - 1) // PAGE * PAGE
        # One room for both: an address keeps nothing alive, and ``mixed`` is still read when ``scores`` no longer is.
        room = np.empty(group * (width + size), np.float32)
        scores = room[: group * width].reshape(group, width)
        mixed = room[group * width :].reshape(group, size)
        total = np.empty(group, np.float32)
        at_s, at_m = scores.ctypes.data, mixed.ctypes.data
        pages = table[row_N[n]].astype(np.int64)
        count, step = width // PAGE, kv_heads * size * PAGE
        head = h * size * PAGE * 4
        for a in range(group):
            mine = at_q + (n * heads + h * group + a) * size * 4
            _scores(mine, at_k + head, step, pages.ctypes.data, count, size, at_s + a * width * 4)
        _softmax(scores, group, length, scale, total)
        for b in range(count):
            page = at_v + pages[b] * step * 4 + head
            left = min(PAGE, length - b * PAGE)
            for a in range(group):
                _mix(at_s + (a * width + b * PAGE) * 4, page, left, size, at_m + a * size * 4, b > 0)
        for a in range(group):
            for d in range(size):
                out[n // LANES, (h * group + a) * size + d, n % LANES] = mixed[a, d] / total[a]


@njit(cache=True, nogil=True, parallel=True)
def _gate(gate, up):  # type: ignore[no-untyped-def]
    """``up *= silu(gate)``."""
    for p in prange(gate.shape[0]):
        for f in range(gate.shape[1]):
            for lane in range(LANES):
                g = gate[p, f, lane]
                up[p, f, lane] *= g / (np.float32(1.0) + _exp(min(-g, np.float32(87.0))))


@njit(cache=True, nogil=True)
def layer(x, weights, vectors, eps, cos_N, sin_N, where, table, scale, keys, values, scratch):  # type: ignore[no-untyped-def]
    """Run one layer in place on ``x`` (P, hidden, LANES).

    ``weights``: q, k, v, o, gate, up, down (out, in). ``vectors``: both norms, q and k norms, biases of q, k, v, o
    (empty where there are none). ``where``: page, slot, table row and position of each token.
    """
    wq, wk, wv, wo, wg, wu, wd = weights
    before, after, norm_q, norm_k, bias_q, bias_k, bias_v, bias_o = vectors
    pages_N, slots_N, row_N, pos_N = where
    normed, q, k, v, mixed, gate, up, query, key = scratch
    normalise(x, before, eps, normed)
    matmul(normed, wq, q, False)
    matmul(normed, wk, k, False)
    matmul(normed, wv, v, False)
    _bias(q, bias_q)
    _bias(k, bias_k)
    _bias(v, bias_v)
    rotate(q, cos_N, sin_N, norm_q, eps, query)
    rotate(k, cos_N, sin_N, norm_k, eps, key)
    place(key, v, pages_N, slots_N, keys, values)
    attend(query, keys, values, table, row_N, pos_N, scale, mixed)
    matmul(mixed, wo, x, True)
    _bias(x, bias_o)
    normalise(x, after, eps, normed)
    matmul(normed, wg, gate, False)
    matmul(normed, wu, up, False)
    _gate(gate, up)
    matmul(up, wd, x, True)
