"""Local weights: any Hugging Face causal language model as a policy that samples and that can be trained."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ferrule.chat.codec import Codec, awaited
from ferrule.chat.portable import chat_template, written_here
from ferrule.chat.renderer import Renderer, added
from ferrule.chat.reply import pieces_of
from ferrule.chat.template import Template
from ferrule.core.arrays import nearest
from ferrule.core.clip import clean
from ferrule.core.flows import Ask
from ferrule.core.powers import POWERS
from ferrule.core.records import Message, Reply
from ferrule.core.streams import Stream
from ferrule.policies.adapters import base_of, frozen_copy, merged, silent, with_lora
from ferrule.policies.devices import torch_device
from ferrule.policies.engine.engine import Decoder
from ferrule.policies.engine.engines import open_engine
from ferrule.policies.engine.rows import Stops
from ferrule.policies.forward import logits_at
from ferrule.policies.heads import VALUE, Head, linear, load_heads, save_heads
from ferrule.policies.layouts import renderer_for, save_renderer
from ferrule.policies.loaded import DTYPES, adapted, model_of, tokenizer_of
from ferrule.policies.local_stream import LocalStream
from ferrule.policies.models import PACKAGED, SHIPPED
from ferrule.policies.packing.packed import logps, micro_batches
from ferrule.policies.precision import fast_dtype
from ferrule.policies.vllm.weights import fingerprint
from ferrule.policies.vocab import add_tokens, load_tokens, save_tokens, without_tokens

__all__ = ["Local", "load"]


class Local:
    """A causal language model with its tokenizer and renderer.

    ``generate`` answers asks in batches; ``logps`` scores token ids with gradients. Ids are append-only: a prompt is
    ``ask.context`` followed by the encoding of the new text alone. ``autocast`` runs matrix products in bf16.
    ``rows`` bounds the samples decoded at once and ``cache_mb`` the memory of their cache (MiB); ``engine`` names how
    they are decoded (``policies.engine.engines``).
    """

    powers = frozenset(POWERS)

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        renderer: Renderer,
        *,
        name: str = "local",
        autocast: bool = False,
        temperature: float = 1.0,
        max_tokens: int = 256,
        rows: int = 128,
        engine: str = "auto",
        cache_mb: int = 1024,
    ) -> None:
        self.model, self.tokenizer, self.renderer, self.name = model, tokenizer, renderer, name
        self.autocast, self.temperature, self.max_tokens, self.rows = autocast, temperature, max_tokens, rows
        self.stops = Stops(tokenizer, _end_ids(model, tokenizer, renderer, self.encode))
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self.stops.end_ids, default=0)
        self.heads = torch.nn.ModuleDict()
        self.head_kinds: dict[str, Head] = {}
        self.tokens: tuple[str, ...] = ()
        self._reference: Any = None
        self._settings: dict[str, Any] = {"kind": engine, "rows": rows, "cache_mb": cache_mb}
        self._engine: Decoder | None = None
        self._built: tuple[Any, ...] = ()
        self._weights: tuple[Any, ...] = ()
        self.lock = threading.RLock()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; special tokens are recognised, none are added."""
        return list(self.tokenizer(clean(text), add_special_tokens=False)["input_ids"])

    def pieces(self, text: str) -> list[str]:
        """Return a text cut into what its tokens stand for."""
        return pieces_of(self.stops.text, self.encode(text))

    def prompt_ids(self, ask: Ask) -> tuple[int, ...]:
        """Return the ids the model is fed: the context as it is, the new text encoded alone, and the begun ids."""
        if not ask.context:
            text = self.renderer.opening(ask.messages, ask.tools)
            return (*self.encode(text + ask.prefill), *ask.begun)
        written, mark = self.stops.text(ask.context[-8:]), awaited(self.renderer.codec)
        closed = ask.context[-1] in self.stops.end_ids and not (mark and written.endswith(mark))
        ids = self.encode(added(self.renderer, written, ask.messages[ask.fresh :], closed) + ask.prefill)
        if closed and ids[:1] == [ask.context[-1]]:  # the header of the next turn, which the model wrote to end its own
            ids = ids[1:]
        return (*ask.context, *ids, *ask.begun)

    @contextlib.contextmanager
    def _mode(self, train: bool) -> Iterator[None]:
        was = self.model.training
        self.model.train(train)
        try:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
                yield
        finally:
            self.model.train(was)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return cast(torch.device, next(self.model.parameters()).device)

    @property
    def dtype(self) -> torch.dtype:
        """Type that the weights are held in; of weights in 4 bits, that of the others."""
        return cast(torch.dtype, self.model.get_input_embeddings().weight.dtype)

    @property
    def has_adapter(self) -> bool:
        """Whether the model has adapters, fresh or saved ones."""
        return hasattr(self.model, "peft_config")

    @property
    def products(self) -> torch.dtype:
        """Type that products are computed in: bf16 under ``autocast``, else that of the weights."""
        return torch.bfloat16 if self.autocast else self.dtype

    @property
    def engine(self) -> Decoder:
        """The engine that decodes; what it has cached is forgotten once the weights have changed."""
        if self._built != (self.model, self.autocast):
            self._engine = open_engine(self.model, self.stops, self.pad, autocast=self.autocast, **self._settings)
            self._built, self._weights = (self.model, self.autocast), ()
        assert self._engine is not None
        if not self._engine.busy:  # nobody changes weights while rows are decoded
            weights = fingerprint(self.model)
            if weights != self._weights:
                self._engine.forget()
                self._weights = weights
        return self._engine

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks; equal beginnings are computed once.

        A reply ends with ``length`` at the model's last position; a prompt that leaves none gets an empty reply.
        """
        replies: dict[int, list[Reply]] = {}
        stream = self.stream()
        try:
            stream.begin(list(enumerate(asks)))
            while len(replies) < len(asks):
                replies |= dict(stream.advance())
        finally:
            stream.close()
        return [replies[i] for i in range(len(asks))]

    def stream(self) -> Stream:
        """Open a stream: asks may join while others are decoded."""
        return LocalStream(self)

    def step(self) -> None:
        """Bring all rows in the engine on by one step."""
        assert self._engine is not None
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            self._engine.step()

    def logps(
        self, ids_BT: Tensor, turn_BT: Tensor, *, temperature: float = 1.0, model: Any = None
    ) -> dict[str, Tensor]:
        """Return log-probs, entropies and (with a value head) values of every token given those before it.

        ``ids_BT`` is right-padded, ``turn_BT`` the turn index with -1 off the model's tokens; results are (B, T), zero
        where ``turn_BT`` is -1. Prefixes that rows share are computed once (``policies.packed``).
        """
        return logps(
            self.model if model is None else model, ids_BT, turn_BT,
            temperature=temperature, autocast=self.autocast,
            value_head=dict(self.heads.items()).get("value"),
        )  # fmt: skip

    def values(self, ids_NT: Any, turn_NT: Any) -> Any:
        """Return the critic's values of all rows, (N, T) numpy, zero off the model's tokens."""
        self.add_head(VALUE)
        return self._by_rows(lambda ids, turn: self.logps(ids, turn)["value_NT"], ids_NT, turn_NT)

    def scores(self, ids_NT: Any, turn_NT: Any, *, temperature: float = 1.0) -> Any:
        """Return log-probs under the present weights of all rows, (N, T) numpy, zero off the model's tokens."""
        return self._by_rows(
            lambda ids, turn: self.logps(ids, turn, temperature=temperature)["logp_NT"], ids_NT, turn_NT
        )

    def frozen(self) -> Local:
        """Return a policy of its own with a copy of the present weights; those that do not train are shared."""
        twin = copy.copy(self)
        twin.model = frozen_copy(self.model)
        twin.lock, twin._engine, twin._built = threading.RLock(), None, ()
        return twin

    def follow(self, other: Local) -> None:
        """Take over the weights of another policy of the same shape."""
        with torch.no_grad():
            for mine, its in zip(self.model.parameters(), other.model.parameters(), strict=True):
                mine.copy_(its)

    def references(self, ids_NT: Any, turn_NT: Any, *, temperature: float = 1.0) -> Any:
        """Return log-probs under the reference weights of all rows, (N, T) numpy, zero off the model's tokens."""
        score = partial(self.reference_logps, temperature=temperature)
        return self._by_rows(score, ids_NT, turn_NT)

    @torch.no_grad()
    def _by_rows(self, score: Callable[[Tensor, Tensor], Tensor], ids_NT: Any, turn_NT: Any, rows: int = 32) -> Any:
        """Score numpy rows, as many at a time as the token budget has room for, and return one numpy array."""
        score_NT = np.zeros(ids_NT.shape)
        with self._mode(False):
            for part in micro_batches(self.model, ids_NT, turn_NT, rows=rows, autocast=self.autocast):
                ids, turn = (torch.from_numpy(array[part]).to(self.device) for array in (ids_NT, turn_NT))
                score_NT[part] = score(ids, turn).cpu().double()
        return score_NT

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that train (adapters only, when there are any), and those of the heads."""
        return [p for p in self.model.parameters() if p.requires_grad] + list(self.heads.parameters())

    def add_head(self, head: Head) -> None:
        """Add a head; one that is there already stays as it is, another of the same name is refused."""
        if self.head_kinds.get(head.name, head) != head:
            raise ValueError(f"the policy has another head {head.name!r}: {self.head_kinds[head.name]}")
        if head.name not in self.heads:
            width = self.model.get_output_embeddings().weight.shape[1]
            self.heads[head.name], self.head_kinds[head.name] = linear(width, self.device), head

    def add_tokens(self, tokens: Sequence[str]) -> None:
        """Freeze the weights and give new tokens trainable rows of their own (``policies.vocab.add_tokens``)."""
        with self.lock:
            add_tokens(self, tokens)
            self._built = ()

    def hidden(self, ids_BT: Tensor, *, layer: int = -1) -> Tensor:
        """Return the hidden states of a layer at every token of right-padded rows, (B, T, D)."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            last = torch.tensor([ids_BT.shape[1] - 1], device=self.device)
            _, states = logits_at(self.model, ids_BT.clamp(min=0), last, hidden=True)
        return cast(Tensor, states[layer])

    def keep_reference(self, anew: bool = False) -> None:
        """Remember the present weights as the reference, unless some are.

        Weights that do not train are shared with the model. Fresh adapters need no copy: the reference is the model
        without them. ``anew`` remembers the present weights in any case.
        """
        if anew or (self._reference is None and (self.tokens or not silent(self.model))):
            self._reference = frozen_copy(self.model)

    @torch.no_grad()
    def reference_logps(self, ids_BT: Tensor, turn_BT: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Return log-probs under the reference weights, (B, T)."""
        if self._reference is None and hasattr(self.model, "disable_adapter"):
            with self.model.disable_adapter():
                return self.logps(ids_BT, turn_BT, temperature=temperature)["logp_NT"]
        if self._reference is None:
            raise RuntimeError("no reference weights: call keep_reference() before training")
        return self.logps(ids_BT, turn_BT, temperature=temperature, model=self._reference)["logp_NT"]

    def add_adapter(self, *, seed: int = 0, **options: Any) -> None:
        """Freeze the weights and add LoRA adapters; ``options`` are those of ``policies.adapters.with_lora``."""
        with without_tokens(self.model):
            self.model = with_lora(self.model, seed=seed, **options)
        name, config = self.name, self.model.active_peft_config
        if name in (*SHIPPED, *PACKAGED):  # a name means the same on every machine, a path does not
            config.base_model_name_or_path = name
        elif Path(str(config.base_model_name_or_path)).is_dir():  # and a relative one not even in every folder
            config.base_model_name_or_path = str(Path(config.base_model_name_or_path).resolve())

    def merge_adapter(self) -> None:
        """Add the adapters to the weights they adapt: what is left is a whole model (``policies.adapters.merged``)."""
        with without_tokens(self.model):
            self.model = merged(self.model)

    def save(self, folder: Path) -> None:
        """Write safetensors weights (or the PEFT adapter), heads, new tokens, tokenizer and renderer to a folder.

        A tokenizer without a chat template gets one that lays text out as the renderer does, where there is one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # Of adapters, only these: asked by itself, peft would look for the base model on the hub.
        alone = {"save_embedding_layers": False} if self.has_adapter else {}
        with without_tokens(self.model):
            self.model.save_pretrained(folder, safe_serialization=True, **alone)
        if written_here(self.tokenizer.chat_template):
            self.tokenizer.chat_template = chat_template(self.renderer)
        self.tokenizer.save_pretrained(folder)
        save_renderer(self.renderer, folder)
        save_heads(self, folder)
        save_tokens(self, folder)


def _end_ids(model: Any, tokenizer: Any, renderer: Renderer, encode: Callable[[str], list[int]]) -> frozenset[int]:
    """Return the ids that end a reply: the end-of-turn token, and those that model and tokenizer name.

    Where a template closes no turn, the header of the next one does as well. An end-of-turn text of several tokens is
    refused (its last also ends others).
    """
    ids = encode(renderer.end)
    if len(ids) != 1:
        raise ValueError(
            f"the end-of-turn text {renderer.end!r} is {len(ids)} tokens of this tokenizer; it must be one"
        )
    if isinstance(renderer, Template) and not renderer.closing:
        next_turns = (Message("user", "x"), Message("tool", "x"))
        ids += [encode(renderer.extension([message], closed=True).lstrip())[0] for message in next_turns]
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids += [named] if isinstance(named, int) else list(named or ())
    return frozenset(i for i in (tokenizer.eos_token_id, *ids) if i is not None)


def load(
    source: str | Path,
    *,
    name: str = "",
    codec: str | Codec | None = None,
    dtype: str = "float32",
    bf16: bool = False,
    device: str = "auto",
    adapter: str | Path | None = None,
    load_in_4bit: bool = False,
    tool_role: str = "auto",
    renderer: str = "auto",
    date: str = "",
    trust_remote_code: bool = False,
    **settings: Any,
) -> Local:
    """Load a policy from a folder or hub name, of a whole model or of adapters, which go on training.

    ``name`` is what records call it (empty: ``source``). ``dtype`` is what the weights are held in: ``float32``,
    ``bfloat16`` (the optimiser then keeps fp32 copies of those that train), or ``auto``, which is fp32 with ``bf16``
    where that is measured as faster. ``bf16`` computes products in bf16 from fp32 weights. ``device`` is ``auto`` (the
    first of a GPU, MPS and the processor that is there), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. ``adapter`` puts
    saved adapters on the model; ``load_in_4bit`` holds its matrices in 4 bits. ``trust_remote_code`` runs Python files
    of the model's folder.

    A folder written by ``Local.save`` brings its own renderer, whose codec ``codec`` replaces when it is given. Other
    models use their chat template, laid out in the first way whose text is right (``chat.fitted``): ``codec`` is the
    form that the family's template writes calls in, else ``hermes``, unless it is given; ``tool_role`` and ``renderer``
    take no other way than theirs, and ``date`` (ISO, else today) is what a template is told that asks for the day.
    Raises ``TemplateRefused`` where none is right, ``ValueError`` for invalid names and a device that is not there.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; {nearest(dtype, DTYPES)}")
    place = torch_device(device)
    base = base_of(source) if adapter is None else ""
    texts = base if base and not (Path(source) / "tokenizer_config.json").is_file() else source
    tokenizer = tokenizer_of(texts, trust_remote_code=trust_remote_code)
    held = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    whole, on_it = (base, source) if base else (source, adapter)
    model = model_of(whole, dtype=held, device=place, load_in_4bit=load_in_4bit, trust_remote_code=trust_remote_code)
    model = model if on_it is None else adapted(model, on_it)
    layout = renderer_for(texts, tokenizer, codec, tool_role=tool_role, renderer=renderer, date=date)
    autocast = bf16 or (dtype == "auto" and fast_dtype(place.type) is torch.bfloat16)
    policy = Local(model, tokenizer, layout, name=name or str(source), autocast=autocast, **settings)
    for folder in (source, adapter):
        if folder is not None:
            load_tokens(policy, Path(folder))
            load_heads(policy, Path(folder))
    return policy
