"""Local weights: any Hugging Face causal language model as a policy that samples and that can be trained."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ferrule.chat.codec import codec as named_codec
from ferrule.chat.renderer import ChatML, Renderer, Template
from ferrule.core.records import Ask, Finish, Reply, Span
from ferrule.policies.decode import Row, Stops, decode
from ferrule.tools.text import clean

__all__ = ["Local", "fast_dtype", "load"]


class Local:
    """A causal language model with its tokenizer and renderer.

    ``generate`` answers asks in batches; ``logps`` scores token ids with gradients. Ids are append-only: a prompt is
    ``ask.context`` followed by the encoding of the new text alone. ``autocast`` runs matrix products in bf16.
    ``rows`` bounds the samples decoded at once.
    """

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
    ) -> None:
        self.model, self.tokenizer, self.renderer, self.name = model, tokenizer, renderer, name
        self.autocast, self.temperature, self.max_tokens, self.rows = autocast, temperature, max_tokens, rows
        ends = {tokenizer.eos_token_id, *_one_token(renderer.end, self.encode(renderer.end))}
        self.stops = Stops(tokenizer, frozenset(i for i in ends if i is not None))
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self.stops.end_ids, default=0)
        self.value_head: torch.nn.Linear | None = None
        self._reference: Any = None

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; special tokens are recognised, none are added."""
        return list(self.tokenizer(clean(text), add_special_tokens=False)["input_ids"])

    def prompt_ids(self, ask: Ask) -> tuple[int, ...]:
        """Return the ids the model is fed for an ask: its context as it is, then the new text encoded alone."""
        if ask.context:
            text = self.renderer.extension(ask.messages[ask.fresh :], ask.context[-1] in self.stops.end_ids)
        else:
            text = self.renderer.opening(ask.messages, ask.tools)
        return (*ask.context, *self.encode(text + ask.prefill))

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

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks; the ``n`` samples of an ask, and equal prompts, share one prefill.

        A reply ends with ``length`` at the model's last position; a prompt that leaves none gets an empty reply.
        """
        rows: list[Row] = []
        room = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        for ask in asks:
            given = self.prompt_ids(ask)
            heat = self.temperature if ask.temperature is None else ask.temperature
            stop = tuple(dict.fromkeys(text for text in (*self.renderer.codec.stop, *ask.stop) if text))
            most = min(ask.max_tokens or self.max_tokens, room - len(given))
            finish = "length" if most < 1 else ""
            rows += [Row(given, most, heat, (ask.seed << 8) + sample, stop, finish=finish) for sample in range(ask.n)]
        fitting = (i for i, row in enumerate(rows) if not row.finish)
        order = sorted(fitting, key=lambda i: (len(rows[i].given), rows[i].given))
        with self._mode(False):
            for start in range(0, len(order), self.rows):
                decode(self.model, [rows[i] for i in order[start : start + self.rows]], self.stops, self.pad)
        done = iter(rows)
        return [[self._reply(ask, next(done)) for _ in range(ask.n)] for ask in asks]

    def _reply(self, ask: Ask, row: Row) -> Reply:
        body = row.sampled[:-1] if row.sampled and row.sampled[-1] in self.stops.end_ids else row.sampled
        text = self.stops.text(body)
        ends = [text.find(stop) + len(stop) for stop in row.stop if stop in text]
        if ends:
            text = text[: min(ends)]
        labelled = [] if ask.prefill else self.renderer.codec.spans(text)
        pieces = _pieces(self.stops.text, body) if labelled else []
        return Reply(
            message=self.renderer.codec.read(ask.prefill + text),
            spans=_spans(text, pieces, labelled),
            given=row.given,
            sampled=tuple(row.sampled),
            logps=tuple(row.logps),
            finish=cast(Finish, row.finish),
            extras={"entropy": tuple(row.entropies)} if "entropy" in ask.want else {},
        )

    def logps(
        self, ids_BT: Tensor, turn_BT: Tensor, *, temperature: float = 1.0, model: Any = None
    ) -> dict[str, Tensor]:
        """Return log-probs, entropies and (with a value head) values of every token given those before it.

        ``ids_BT`` is right-padded, ``turn_BT`` the turn index with -1 off the model's tokens; results are (B, T), zero
        where ``turn_BT`` is -1. Logits are computed only at columns that some row needs.
        """
        model = self.model if model is None else model
        needed = torch.nonzero((turn_BT[:, 1:] >= 0).any(0)).squeeze(1)
        out = {name: torch.zeros(ids_BT.shape, device=ids_BT.device) for name in ("logp_NT", "entropy_NT", "value_NT")}
        if needed.numel() == 0:
            return out
        ids = ids_BT.clamp(min=0)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            result = model(
                input_ids=ids, use_cache=False, logits_to_keep=needed, output_hidden_states=self.value_head is not None
            )
        logits = result.logits.float() / temperature
        columns = needed + 1
        logp = torch.log_softmax(logits, dim=-1)
        mask = turn_BT[:, columns] >= 0
        chosen = logp.gather(2, ids[:, columns, None]).squeeze(2)
        entropy = -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)
        zero = torch.zeros((), device=ids.device)
        out["logp_NT"] = out["logp_NT"].index_copy(1, columns, torch.where(mask, chosen, zero))
        out["entropy_NT"] = out["entropy_NT"].index_copy(1, columns, torch.where(mask, entropy, zero))
        if self.value_head is not None:
            hidden = result.hidden_states[-1][:, needed].float().detach()
            values = self.value_head(hidden).squeeze(-1)
            out["value_NT"] = out["value_NT"].index_copy(1, columns, torch.where(mask, values, zero))
        return out

    def values(self, ids_NT: Any, turn_NT: Any) -> Any:
        """Return the critic's values of all rows, (N, T) numpy, zero off the model's tokens."""
        self.add_value_head()
        return self._by_rows(lambda ids, turn: self.logps(ids, turn)["value_NT"], ids_NT, turn_NT)

    def references(self, ids_NT: Any, turn_NT: Any, *, temperature: float = 1.0) -> Any:
        """Return log-probs under the reference weights of all rows, (N, T) numpy, zero off the model's tokens."""
        score = partial(self.reference_logps, temperature=temperature)
        return self._by_rows(score, ids_NT, turn_NT)

    @torch.no_grad()
    def _by_rows(self, score: Callable[[Tensor, Tensor], Tensor], ids_NT: Any, turn_NT: Any, rows: int = 32) -> Any:
        """Score numpy rows a few at a time and return the results as one numpy array."""
        parts = []
        with self._mode(False):
            for start in range(0, len(ids_NT), rows):
                ids = torch.from_numpy(ids_NT[start : start + rows]).to(self.device)
                turn = torch.from_numpy(turn_NT[start : start + rows]).to(self.device)
                parts.append(score(ids, turn).double().cpu())
        return torch.cat(parts).numpy()

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that train (adapters only, when there are any), and the value head's."""
        own = [p for p in self.model.parameters() if p.requires_grad]
        return own + (list(self.value_head.parameters()) if self.value_head is not None else [])

    def add_value_head(self) -> None:
        """Add a linear critic on the last hidden state, zero at the start; a second call does nothing."""
        if self.value_head is None:
            size = self.model.get_output_embeddings().weight.shape[1]
            self.value_head = torch.nn.Linear(size, 1).to(self.device)
            torch.nn.init.zeros_(self.value_head.weight)
            torch.nn.init.zeros_(self.value_head.bias)

    def keep_reference(self) -> None:
        """Remember the present weights as the reference; with adapters the base weights are the reference."""
        if self._reference is None and not hasattr(self.model, "disable_adapter"):
            self._reference = copy.deepcopy(self.model).requires_grad_(False)

    @torch.no_grad()
    def reference_logps(self, ids_BT: Tensor, turn_BT: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Return log-probs under the reference weights, (B, T)."""
        if hasattr(self.model, "disable_adapter"):
            with self.model.disable_adapter():
                return self.logps(ids_BT, turn_BT, temperature=temperature)["logp_NT"]
        if self._reference is None:
            raise RuntimeError("no reference weights: call keep_reference() before training")
        return self.logps(ids_BT, turn_BT, temperature=temperature, model=self._reference)["logp_NT"]

    def add_adapter(self, *, rank: int = 16, seed: int = 0) -> None:
        """Freeze the weights and add LoRA adapters of that rank to all linear layers inside the blocks."""
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(self.model, config)

    def save(self, folder: Path) -> None:
        """Write safetensors weights (or the PEFT adapter), tokenizer and renderer settings to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)
        if isinstance(self.renderer, ChatML):
            (folder / "ferrule.json").write_text(json.dumps(_renderer_settings(self.renderer), indent=1))


def _one_token(end: str, ids: Sequence[int]) -> Sequence[int]:
    """Return the id of the end-of-turn text; a text of several tokens is refused (its last also ends others)."""
    if len(ids) != 1:
        raise ValueError(f"the end-of-turn text {end!r} is {len(ids)} tokens of this tokenizer; it must be one")
    return ids


def _pieces(text: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    """Return what every token adds to the text; a letter of several tokens is added by the last of them."""
    pieces: list[str] = []
    begin = 0
    for i in range(len(ids)):
        whole = text(ids[begin : i + 1])
        if whole.endswith("\ufffd") and i + 1 - begin < 4:
            pieces.append("")
        else:
            pieces.append(whole)
            begin = i + 1
    return pieces


def _spans(text: str, pieces: Sequence[str], ranges: Sequence[tuple[str, int, int]]) -> tuple[Span, ...]:
    """Map labelled character ranges to token ranges by the lengths of the tokens' texts."""
    starts, at = [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece)
    out = []
    for label, low, high in ranges:
        inside = [i for i, (s, p) in enumerate(zip(starts, pieces, strict=True)) if s < high and s + len(p) > low]
        if inside:
            out.append(Span(label, inside[0], inside[-1] + 1))
    return tuple(out)


def _renderer_settings(renderer: ChatML) -> dict[str, Any]:
    import dataclasses

    settings = {f.name: getattr(renderer, f.name) for f in dataclasses.fields(renderer) if f.name != "codec"}
    codec = renderer.codec
    options = {f.name: getattr(codec, f.name) for f in dataclasses.fields(cast(Any, codec)) if f.init}
    return {"codec": codec.name, "options": options, "chatml": settings}


@cache
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Measure a matrix product in bf16 and fp32 and return the faster type; bf16 wins with AMX and on GPUs."""

    def seconds(dtype: torch.dtype) -> float:
        a = torch.randn(256, 256, device=device).to(dtype)
        a @ a
        start, best = time.perf_counter(), float("inf")
        for _ in range(20):
            began = time.perf_counter()
            (a @ a).sum().item()
            ended = time.perf_counter()
            best = min(best, ended - began)
            if ended - start > 0.2:  # a type that is emulated takes seconds
                break
        return best

    return torch.bfloat16 if seconds(torch.bfloat16) < 0.7 * seconds(torch.float32) else torch.float32


def load(
    name: str | Path,
    *,
    codec: str = "hermes",
    dtype: str = "float32",
    device: str = "cpu",
    adapter: str | Path | None = None,
    **settings: Any,
) -> Local:
    """Load a policy from a folder or model name; weights stay fp32 and ``dtype`` chooses how products are computed.

    ``dtype`` is ``float32``, ``bfloat16`` or ``auto`` (measured). A folder written by ``Local.save`` brings its own
    renderer; other models use their chat template, which is checked and refused when it cannot be extended safely.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # bars of a library would break the run's own live line
    if dtype not in ("float32", "bfloat16", "auto"):
        raise ValueError(f"dtype is {dtype!r}; valid: auto, bfloat16, float32")
    tokenizer = AutoTokenizer.from_pretrained(str(name))
    model = AutoModelForCausalLM.from_pretrained(str(name), dtype=torch.float32).to(device)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    own = Path(name) / "ferrule.json"
    renderer: Renderer
    if own.is_file():
        kept = json.loads(own.read_text())
        renderer = ChatML(named_codec(kept["codec"], **kept["options"]), **kept["chatml"])
    else:
        renderer = Template(tokenizer, named_codec(codec))
    fast = fast_dtype(device) if dtype == "auto" else getattr(torch, dtype)
    policy = Local(model, tokenizer, renderer, name=str(name), autocast=fast is torch.bfloat16, **settings)
    return policy
