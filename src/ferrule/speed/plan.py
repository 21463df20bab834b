"""What a training step will take: seconds, memory and network for a model on accelerators, by plain arithmetic.

Everything is bytes, seconds, operations and tokens. The guide to planning derives each formula.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.speed.activations import activations
from ferrule.speed.devices import Device
from ferrule.speed.shapes import Shape

__all__ = [
    "Fractions",
    "Setup",
    "Workload",
    "decode_seconds",
    "generation",
    "held",
    "network",
    "plan",
    "training",
    "update",
]

_USABLE = 0.9  # of the memory; the rest goes to the context of the driver, to buffers and to gaps
_LOGITS = 3 * 2**28  # what the output layer takes on an accelerator
_LATENCY = 10e-6  # seconds that one exchange between the devices of an engine takes at least
_MOST = 13  # powers of two up to 4096 devices are tried for one that fits


def _at_least(record: Any, **least: int) -> None:
    """Refuse a field that lies below its least value."""
    for name, value in least.items():
        if getattr(record, name) < value:
            raise ValueError(f"{name} is {getattr(record, name)}; the least is {value}")


@dataclass(frozen=True)
class Workload:
    """One step: ``episodes`` in groups of ``num_generations``, each of ``turns`` replies of ``new`` tokens.

    ``prompt``, ``new`` and ``observation`` (between replies) are means in tokens; ``tool_seconds`` passes there too.
    """

    episodes: int = 512
    num_generations: int = 8
    prompt: int = 1024
    new: int = 512
    observation: int = 256
    turns: int = 4
    tool_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse invalid sizes."""
        _at_least(self, episodes=1, num_generations=1, prompt=1, new=1, observation=0, turns=1)
        if self.tool_seconds < 0 or not math.isfinite(self.tool_seconds):
            raise ValueError(f"tool_seconds is {self.tool_seconds}; it must be a number from 0 on")

    @property
    def groups(self) -> int:
        """Different prompts of a step."""
        return math.ceil(self.episodes / self.num_generations)

    @property
    def continuation(self) -> int:
        """Tokens of an episode after its prompt."""
        return self.turns * self.new + (self.turns - 1) * self.observation

    @property
    def sampled(self) -> int:
        """Tokens that the model writes in a step."""
        return self.episodes * self.turns * self.new

    @property
    def tokens(self) -> int:
        """Tokens of an update, in which a group's prompt counts once."""
        return self.groups * self.prompt + self.episodes * self.continuation


@dataclass(frozen=True)
class Fractions:
    """Shares of the device's rates that are reached, and fixed costs.

    ``train`` (arithmetic done again counts) and ``prefill`` of the matrix rate, ``decode`` of the roofline, ``network``
    of the links; ``overhead`` are seconds per decode step for scheduling and sampling.
    """

    train: float = 0.5
    prefill: float = 0.5
    decode: float = 0.6
    network: float = 0.7
    overhead: float = 0.002

    def __post_init__(self) -> None:
        """Refuse invalid shares and times."""
        for name in ("train", "prefill", "decode", "network"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share, above 0 and 1 at most")
        if self.overhead < 0 or not math.isfinite(self.overhead):
            raise ValueError(f"overhead is {self.overhead}; it is in seconds, 0 at least")


@dataclass(frozen=True)
class Setup:
    """How the devices are used.

    ``per_node`` devices share fast links. A micro-batch has ``micro`` tokens per device. ``lora_r`` is the rank of
    adapters (0: all weights train), ``gradient_checkpointing`` computes activations again in the backward pass.
    ``dtype`` is what weights are held in, ``float32`` or ``bfloat16``; ``load_in_4bit`` holds frozen ones in 4 bits.
    """

    gpus: int = 8
    per_node: int = 8
    micro: int = 16_384
    lora_r: int = 0
    gradient_checkpointing: bool = True
    dtype: str = "float32"
    load_in_4bit: bool = False
    fractions: Fractions = field(default_factory=Fractions)

    def __post_init__(self) -> None:
        """Refuse invalid numbers of devices and tokens."""
        _at_least(self, gpus=1, per_node=1, micro=1, lora_r=0)
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"unknown dtype {self.dtype!r}; {nearest(self.dtype, ('float32', 'bfloat16'))}")
        if self.load_in_4bit and not self.lora_r:
            raise ValueError("weights in 4 bits do not train; set lora_r")


def _trained(shape: Shape, setup: Setup) -> float:
    """Return how many parameters train."""
    if not setup.lora_r:
        return shape.parameters
    return shape.layers * setup.lora_r * sum(inputs + outputs for inputs, outputs in shape.linears().values())


def held(trained: float, frozen: float, *, half: bool = False, four_bits: bool = False) -> float:
    """Return the bytes of weights and training state: 16 per trained parameter, 4 per frozen one.

    The 16 are weight, gradient and both Adam moments in fp32. In half precision a frozen weight takes 2, a trained one
    2 more than before: it is a rounded copy. In 4 bits a frozen weight takes 0.52, its share of the scales included
    (QLoRA, section 3).
    """
    return (18 if half else 16) * trained + (0.52 if four_bits else 2 if half else 4) * frozen


def _state(shape: Shape, setup: Setup) -> float:
    """Return the bytes of weights and training state on one device; adapters are in fp32 whatever the weights are."""
    half, trained = setup.dtype == "bfloat16", _trained(shape, setup)
    if not setup.lora_r:
        return held(trained, 0, half=half) / setup.gpus
    frozen = held(0, shape.parameters, half=half, four_bits=setup.load_in_4bit)
    return (held(trained, 0) + frozen) / setup.gpus


def training(shape: Shape, device: Device, setup: Setup, *, logits: float = _LOGITS) -> dict[str, float]:
    """Return bytes per device while training: ``state``, ``gathered``, ``activations``, ``total``, ``usable``.

    State is sharded over all devices. Gathered are two blocks and the head in the compute format with the gradient of
    one block; a single device keeps all weights in that format, if they are not held in it anyway. For activations see
    ``speed.activations``; ``logits`` are the bytes of the output layer there, by default three pieces of 256 MiB.
    """
    half = setup.dtype == "bfloat16"
    kept = activations(
        shape, device.width, micro=setup.micro, logits=logits, half=half, lora_r=setup.lora_r,
        again=setup.gradient_checkpointing,
    )  # fmt: skip
    alone = setup.gpus == 1
    if alone:
        gathered = 0 if device.width == 4 or half else device.width * shape.parameters
    else:
        gathered = device.width * (2 * shape.block + shape.head) + (0 if setup.lora_r else 4 * shape.block)
    memory = {
        "state": _state(shape, setup),
        "gathered": float(gathered),
        "activations": kept,
    }
    return {**memory, "total": sum(memory.values()), "usable": _USABLE * device.memory}


def _engine(shape: Shape, device: Device, setup: Setup) -> tuple[int, float]:
    """Return how many devices one engine takes and the bytes it has for its cache (0 or less: it does not fit)."""
    weights = shape.parameters * device.width
    each = _USABLE * device.memory - _state(shape, setup)
    tensor, most = 1, min(setup.gpus, setup.per_node)
    # Half as much cache as weights is the least an engine that is worth running has.
    while tensor * each - weights < 0.5 * weights and tensor * 2 <= most:
        tensor *= 2
    return tensor, tensor * each - weights


def decode_seconds(shape: Shape, device: Device, rows: float, keys: float, cached: float, *, tensor: int = 1) -> float:
    """Return the least seconds of a decode step: ``max((weights + cache) / bandwidth, operations / rate)``.

    ``keys`` is the mean context of a row, ``cached`` the tokens whose keys and values are read, a shared prompt once.
    """
    read = shape.read * device.width + cached * shape.cache_bytes(device.width)
    work = shape.block_flops(rows, keys) + shape.head_flops(rows)
    return max(read / device.bandwidth, work / device.flops) / tensor


def generation(shape: Shape, device: Device, load: Workload, setup: Setup) -> dict[str, Any]:
    """Return the seconds of a step's generation and what bounds them.

    ``tensor`` devices per engine, ``engines``, ``rows`` at once in each, ``waves`` one after another, ``cache`` bytes
    per device; seconds of ``prefill``, ``decode``, ``tools`` and their sum; ``tokens_per_second`` written by all.
    """
    share, (tensor, room) = setup.fractions, _engine(shape, device, setup)
    engines = max(setup.gpus // tensor, 1)
    wanted = math.ceil(load.episodes / engines)
    per_row = shape.cache_bytes(device.width) * (load.prompt / load.num_generations + load.continuation)
    fits = int(room // per_row) if room > 0 else 0
    if fits < 1:
        return {"fits": False, "tensor": tensor, "engines": engines, "room": room, "row_bytes": per_row}
    waves = math.ceil(wanted / fits)
    rows = math.ceil(wanted / waves)
    prompts = math.ceil(rows / load.num_generations)
    prefill = decode = 0.0
    for turn in range(load.turns):
        before = turn * (load.new + load.observation)  # of the episode's own tokens, when the model starts to write
        fresh = prompts * load.prompt if turn == 0 else rows * load.observation
        context = load.prompt / 2 if turn == 0 else load.prompt + before - load.observation / 2
        work = shape.block_flops(fresh, context) + shape.head_flops(rows)
        reading = shape.read * device.width / (device.bandwidth * share.decode)
        prefill += max(work / (device.flops * share.prefill), reading) / tensor if fresh else 0.0
        length = before + load.new / 2
        ideal = decode_seconds(
            shape, device, rows, load.prompt + length, prompts * load.prompt + rows * length, tensor=tensor
        )
        # Two sums over the engine's devices per block, each moving a row's hidden vector almost twice.
        moved = 2 * (tensor - 1) / tensor * rows * shape.hidden * device.width / (device.link * share.network)
        exchange = 2 * shape.layers * (moved + _LATENCY) if tensor > 1 else 0.0
        decode += load.new * (ideal / share.decode + exchange + share.overhead)
    tools = (load.turns - 1) * load.tool_seconds
    seconds = waves * (prefill + decode + tools)
    cache = rows * per_row / tensor
    result = {"fits": True, "tensor": tensor, "engines": engines, "rows": rows, "waves": waves, "cache": cache}
    result.update(prefill=waves * prefill, decode=waves * decode, tools=waves * tools, seconds=seconds)
    total = shape.parameters * device.width / tensor + cache + _state(shape, setup)
    return {**result, "total": total, "tokens_per_second": load.sampled / seconds}


def network(shape: Shape, device: Device, load: Workload, setup: Setup) -> dict[str, float]:
    """Return the bytes each device receives in a step, and the seconds that takes.

    A micro-batch gathers the sharded weights forward and backward (compute format) and scatters fp32 gradients; after
    the update the engines gather the new weights once. Of every byte ``(n - 1) / n`` comes from elsewhere.
    """
    n = setup.gpus
    away, whole = (n - 1) / n, shape.parameters * device.width
    micro = max(math.ceil(load.tokens / (n * setup.micro)), 1)
    gather, scatter = away * 2 * whole * micro, away * 4 * _trained(shape, setup) * micro
    push = away * whole
    rate = (device.link if n <= setup.per_node else min(device.link, device.network)) * setup.fractions.network
    return {
        "micro_batches": micro, "gather": gather, "scatter": scatter, "push": push, "total": gather + scatter + push,
        "update_seconds": (gather + scatter) / rate, "push_seconds": push / rate,
    }  # fmt: skip


def update(shape: Shape, device: Device, load: Workload, setup: Setup) -> dict[str, float]:
    """Return operations and seconds of the update, had it no network.

    Forward once and backward twice over the blocks (frozen weights: backward once), once more with checkpointing; the
    head on written tokens alone, with its logits computed again.
    """
    passes = (2 if setup.lora_r else 3) + (1 if setup.gradient_checkpointing else 0)
    head = (3 if setup.lora_r else 4) * shape.head_flops(load.sampled)
    context = load.prompt + load.continuation / 2  # of the episode's own tokens; the prompt's own attend to half of it
    continued = shape.block_flops(load.episodes * load.continuation, context)
    work = passes * (continued + shape.block_flops(load.groups * load.prompt, load.prompt / 2)) + head
    # The optimiser reads four numbers of 4 bytes and writes three.
    adam = 28 * _trained(shape, setup) / (setup.gpus * device.bandwidth)
    return {"flops": work, "seconds": work / (setup.gpus * device.flops * setup.fractions.train) + adam}


def plan(shape: Shape, device: Device, load: Workload, setup: Setup) -> dict[str, Any]:
    """Return everything about one step; ``problems`` says what does not fit and what would.

    The update takes the longer of arithmetic and network: shards are fetched while the last ones are computed with.
    """
    memory = training(shape, device, setup)
    generated = generation(shape, device, load, setup)
    sent, work = network(shape, device, load, setup), update(shape, device, load, setup)
    trained = max(work["seconds"], sent["update_seconds"])
    rows = load.episodes * (load.prompt + load.continuation)
    result: dict[str, Any] = {
        "model": shape.name, "parameters": shape.parameters, "device": device.name, "gpus": setup.gpus,
        "tokens": {"sampled": load.sampled, "packed": load.tokens},
        "training_memory": memory, "generation": generated, "network": sent,
        "update": {**work, "seconds": trained, "row_tokens_per_second": rows / trained},
    }  # fmt: skip
    fits = generated["fits"] and memory["total"] <= memory["usable"]
    result["fits"] = fits
    if fits:
        result["step_seconds"] = generated["seconds"] + trained + sent["push_seconds"]
        result["episodes_per_hour"] = 3600 * load.episodes / result["step_seconds"]
    result["problems"] = [] if fits else _problems(shape, device, load, setup, memory, generated)
    result["settings"] = {"workload": asdict(load), "setup": asdict(setup)}
    return result


def _fits(shape: Shape, device: Device, load: Workload, setup: Setup) -> bool:
    memory = training(shape, device, setup)
    return memory["total"] <= memory["usable"] and bool(generation(shape, device, load, setup)["fits"])


def _problems(shape: Shape, device: Device, load: Workload, setup: Setup, memory: Any, generated: Any) -> list[str]:
    """Say what does not fit, then whether adapters would, and the least number of devices that would."""
    problems = []
    if memory["total"] > memory["usable"]:
        problems.append(
            f"training needs {memory['total'] / 1e9:.1f} GB per device, {memory['usable'] / 1e9:.1f} GB are usable"
        )
    if not generated["fits"]:
        problems.append(
            f"generation has {generated['room'] / 1e9:.1f} GB for the cache beside the weights and the training state; "
            f"one episode needs {generated['row_bytes'] / 1e9:.2f} GB"
        )
    ways = {"LoRA of rank 16": replace(setup, lora_r=16)} if not setup.lora_r else {}
    ways |= {f"{2**k} devices": replace(setup, gpus=2**k) for k in range(_MOST) if 2**k > setup.gpus}
    fitting = [name for name, other in ways.items() if _fits(shape, device, load, other)]
    fewest = [name for name in fitting if "devices" in name][:1]
    named = [*(name for name in fitting if "devices" not in name), *fewest]
    return [*problems, f"would fit: {', or '.join(named)}" if named else "neither adapters nor more devices would fit"]
