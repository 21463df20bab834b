"""What the backward pass needs of the forward pass: bytes of a token in a block, and of a whole micro-batch."""

from __future__ import annotations

from ferrule.speed.shapes import Shape

__all__ = ["activations", "block_bytes"]


def block_bytes(shape: Shape, width: int, *, half: bool = False, lora_r: int = 0) -> float:
    """Return the bytes that a block keeps of one token until its backward pass.

    ``width`` is that of a number in products: 4, or 2 in bf16, be it from fp32 weights or (``half``) weights in bf16.
    Kept are

    - of every norm its input in fp32, and what its gains scale where they train;
    - what goes into the matrices. Weights of the type that is computed in share it. Where fp32 weights meet products in
      bf16 each matrix has a copy of its own in bf16, and under weights in bf16 each adapter one in fp32;
    - queries, keys, values, and the output of the attention with a number per head;
    - what the activation keeps, and of a gated feed-forward block what leaves it and its other factor;
    - of an adapter what its first matrix gives, in fp32.

    Norms of ungated blocks keep their input alone, in the type of the weights.
    """
    width = 2 if half else width
    mixed = width == 2 and not half
    keys, queries = shape.kv_heads * shape.head_dim, shape.heads * shape.head_dim
    normed = shape.norms * shape.hidden + (queries + keys if shape.head_norms else 0)
    scaled = 0 if lora_r else 4 if mixed else width
    norms = normed * ((4 + scaled) if shape.gated else 2 if half else 4)
    matrices = [inputs for inputs, _ in shape.linears().values()]
    if mixed or (half and lora_r):
        entering = (2 if mixed else 4) * sum(matrices)
    else:
        entering = width * (2 * shape.hidden + queries + shape.intermediate)
    attention = width * 2 * (queries + keys) + 4 * shape.heads
    wide = width * (shape.activation + 2 * shape.gated) * shape.intermediate
    return float(norms + entering + attention + wide + 4 * lora_r * len(matrices))


def activations(
    shape: Shape, width: int, *, micro: int, logits: float, half: bool = False, lora_r: int = 0, again: bool = False
) -> float:
    """Return the bytes that an update takes beside weights and their training state.

    ``micro`` tokens keep ``block_bytes`` in each block; computed ``again`` it is one block, and the input of each.
    Beside them stand either what the output layer takes, ``logits`` bytes with the last norm and the gradient of its
    input, or the gradients of two wide vectors that meet in a block, whichever is more. The gradient of the output
    layer waits for that of the embedding.
    """
    block, stream = micro * block_bytes(shape, width, half=half, lora_r=lora_r), 2 if half else 4
    wide = 4 if lora_r else (2 if half else width)
    passing = micro * 2 * wide * shape.intermediate
    last = micro * (12 + stream) * shape.hidden + logits
    inputs = micro * stream * shape.hidden * shape.layers
    most = inputs + max(block + passing, last) if again else block * shape.layers + max(passing, last)
    return float(most + (0 if lora_r else (2 if half else 4) * shape.head))
