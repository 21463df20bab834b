"""Small pieces that many tests share: a tiny model, a spy on what it sees, worlds, agents and scripts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from tests.branching import two_calls

from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.core.flows import Ask, Flow, Session, World, ask, use
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.policies.local import Local
from ferrule.studies.student_parts import tokenizer_for
from ferrule.tools.budget import Budget
from ferrule.tools.calculator import calculator
from ferrule.worlds.apis import Apis
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.facts import Facts
from ferrule.worlds.session import ToolSession
from ferrule.worlds.user import UserWorld


def layout(name: str = "") -> ChatML:
    """Return a layout of single-token markers with tight calls, or with another codec when one is named."""
    chosen = codec(name) if name else codec("hermes", style="signature", shape="tight")
    return ChatML(chosen, header="<|{role}|>", end="<|end|>", gap="")


@cache
def tokenizer() -> Any:
    """Return a byte-level tokenizer of 270 tokens: one per byte, role headers and call tags."""
    return tokenizer_for(["hello"], 300)


def tiny_model(seed: int = 0, **config: Any) -> Any:
    """Return a Llama of two layers and width 32 with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings |= {"num_key_value_heads": 2, "max_position_embeddings": 2048, "tie_word_embeddings": False}
    model = LlamaForCausalLM(
        LlamaConfig(
            bos_token_id=None, eos_token_id=1, pad_token_id=0, **{"vocab_size": len(tokenizer()), **settings, **config}
        )
    )
    with torch.no_grad():  # a fresh model is almost uniform; sharper logits make tests of sampling tell more
        model.lm_head.weight.mul_(8.0)
    return model.eval()


def tiny_policy(seed: int = 0, codec_name: str = "", **settings: Any) -> Local:
    """Return a policy on a fresh tiny model."""
    return Local(tiny_model(seed), tokenizer(), layout(codec_name), **{"max_tokens": 12, **settings})


@contextlib.contextmanager
def spied(policy: Local) -> Iterator[set[tuple[int, ...]]]:
    """Collect every context that the model computed a next token for, read off its own inputs and its cache.

    Ids travel with the pages of the cache: what is put into a page and what is copied between pages is watched where
    the engine hands it to the model, so nothing is taken from the engine's own bookkeeping of rows.
    """
    seen: set[tuple[int, ...]] = set()
    held: dict[tuple[int, int], int] = {}
    engine: Any = policy.engine
    forward = engine.forward

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(forward, name)

        def copy(self, source: int, target: int) -> None:
            forward.copy(source, target)
            held.update({(target, slot): i for (page, slot), i in list(held.items()) if page == source})

        def __call__(self, ids: Any, positions: Any, pages: Any, rows: Any, table: Any, last: Any) -> Any:
            size = forward.page_size
            held.update({(page, at % size): i for i, at, page in zip(ids, positions, pages, strict=True)})
            for n in last:
                own = [(int(table[rows[n]][at // size]), at % size) for at in range(positions[n] + 1)]
                seen.add(tuple(held[place] for place in own))
            return forward(ids, positions, pages, rows, table, last)

    engine.forward = Watched()
    try:
        yield seen
    finally:
        engine.forward = forward


# --------------------------------------------------------------------------------------------------------------- worlds

NOTE = Tool(
    "note",
    "write a text down",
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    run=lambda text: f"noted {text}",
)


def own_world() -> UserWorld:
    """Return a user's world of three tasks per split with one tool."""
    rows = {
        split: tuple(
            Task(f"{split}{i}", f"What is {i} + {i}?", str(2 * i), world="own", meta={"verifier": "numeric"})
            for i in range(1 + 3 * (split == "test"), 4 + 3 * (split == "test"))
        )
        for split in ("train", "test")
    }
    return UserWorld("own", rows, tools=(calculator,))


WORLDS: Mapping[str, World] = {
    "arithmetic": Arithmetic(tools=("calculator",)),
    "apis": Apis(),
    "facts": Facts(),
    "user": own_world(),
}


@dataclass
class Lines:
    """The state of a ``Bench`` session."""

    written: list[str] = field(default_factory=list)
    closed: int = 0

    def fork(self) -> Lines:
        return Lines(list(self.written))

    def close(self) -> None:
        self.closed += 1


@dataclass(frozen=True)
class Bench:
    """A world with given tools beside ``write``, which keeps lines; it remembers its sessions."""

    more: tuple[Tool, ...] = ()
    calls: int = 8
    answer: str = "yes"
    name: str = "bench"
    opened: list[ToolSession] = field(default_factory=list, compare=False)
    states: list[Lines] = field(default_factory=list, compare=False)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        return [Task(f"{split}/{seed}/{i}", f"task {i}", self.answer, world=self.name) for i in range(count)]

    def start(self, task: Task, seed: int = 0) -> Session:
        def build(state: Lines) -> tuple[Tool, ...]:
            def write(line: str) -> str:
                state.written.append(line)
                return str(len(state.written))

            schema = {"type": "object", "properties": {"line": {"type": "string"}}, "required": ["line"]}
            return (Tool("write", "keep a line", schema, run=write, effects="write"), *self.more)

        state = Lines()
        session = ToolSession(
            task, build, state, budget=Budget(total=self.calls), final=lambda s: {"lines": list(s.written)}
        )
        self.opened.append(session)
        self.states.append(state)
        return session


# --------------------------------------------------------------------------------------------------------------- agents


@dataclass(frozen=True)
class Prober:
    """Ask ``turns`` times whatever the replies are; real calls are made and shown between the asks."""

    turns: int = 3
    max_tokens: int = 8
    n: int = 1

    def __call__(self, task: Task, session: Session) -> Flow[str | None]:
        messages = [Message("system", "Be brief."), Message("user", task.prompt)]
        answer = None
        for _ in range(self.turns):
            replies = yield from ask(Ask(tuple(messages), n=self.n, tools=session.tools, max_tokens=self.max_tokens))
            messages.append(replies[-1].message)
            answer = plain_text(replies[-1].message)
            calls = two_calls(session)
            for call, seen in zip(calls, (yield from use(*calls)), strict=True):
                messages.append(Message("tool", seen.text, name=call.name, call_id=call.id))
        return answer


def expert(task: Task, rounds: Sequence[Sequence[Call]]) -> Any:
    """Return a script that makes the calls of an expert, round by round, and then gives the right answer."""

    def speak(request: Ask, sample: int) -> Message:
        done = sum(m.role == "assistant" for m in request.messages)
        if done < len(rounds):
            calls = tuple(replace(call, id=f"call_{i}") for i, call in enumerate(rounds[done]))
            return Message("assistant", "", calls)
        return Message("assistant", str(task.answer))

    return speak


def played(session: Session, rounds: Sequence[Sequence[Call]]) -> list[Observation]:
    """Run rounds of calls in a session."""
    return [session.act(call) for calls in rounds for call in calls]
