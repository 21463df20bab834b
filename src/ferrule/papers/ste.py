"""STE: LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error (19), March 2024.

https://arxiv.org/abs/2403.04746

Models that were trained for tools still call them wrongly. A model imagines requests for one tool, tries them with the
real tool, reads what comes back and judges itself; a dialogue is its short-term memory, and a list of all earlier
requests its long-term one. What is left after a filter is shown as examples, or learned from, and with a share of old
items in each round tools can be added later.

Departures from the paper:

1. The prompts are our own, and roles are ``prober`` (imagines, solves, reflects), ``judge`` and ``paraphraser``; any
   policy takes each. A dialogue has 4 trials, as in the release's guide (its code has 3).
2. Calls are read by the codec of the policy; ``chat.react`` writes and reads the paper's labelled lines. Nested JSON
   survives, where the release loses a brace, and where an answer stands beside a call the call counts, as there.
3. What a model says of itself is read as whole words; ``said_no`` is the published test, a search for the letters "No",
   by which "None" and "Not" count, and "no" does not. Unclear replies are unsolved. The judge's lines are read by their
   first words; in the release "No." with its full stop rejects.
4. Every trial acts in a branch of the session, and tools that cannot be undone are refused. Of an explorer that sees
   no results (``runs`` False) nothing is left after the filter, as no call of it ran.
5. Names of tools are written as the codec does; ``add_tokens`` of ``policies.vocab`` makes each a token, as published,
   beside a frozen model.
6. The nearest examples are taken by the cosine of words where no encoder is given (``by_vectors``); the published one
   is of sentences. An oracle that lists neighbours of the right tool is not assumed.
7. ``scores`` counts a call of the right tool with the right arguments as texts; a judge of free-form arguments, which
   the paper has for 19 of its 50 tools, is not part, and neither is its reading of an unknown name as the closest one.
8. The claim on replay trains small networks on drawn requests, and in the part ``pocket`` a model on calls of tools
   that it is shown without documents; that on memory has a scripted explorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ferrule.agents.flow import together
from ferrule.agents.imagine import Dialogue, ReadSolved, imagine, solved_in
from ferrule.agents.probe import Probed, Trial
from ferrule.core.flows import Agent, Flow, Policy, Session, World
from ferrule.core.recipe import Data, Drawn, Method, Recipe
from ferrule.core.records import Call, Task, Tool
from ferrule.data.layout import laid_out
from ferrule.data.records import Completion, Record
from ferrule.data.replay import with_replay
from ferrule.data.trials import judged_trial, paraphrase_count, paraphrases, shown_trials, trial_records, usable
from ferrule.evaluate.probed import played_flow, probe_tools
from ferrule.evaluate.taught import Taught
from ferrule.memory.trials import trial_memory
from ferrule.studies.paper import Paper

__all__ = ["PAPER", "CallShares", "continual", "examples", "explored", "method", "said_no", "scores", "teach"]


def said_no(text: str) -> bool:
    """Read what a model says of itself as the release does: solved unless the letters "No" stand in it."""
    return "No" not in text


def explored(
    world: World, policy: Policy | Mapping[str, Policy], *, task: Task | None = None, only: Sequence[str] = (),
    episodes: int = 15, slots: int = 4, memory: bool = True, reflects: bool = True, reference: bool = False,
    seed: int = 0, **settings: Any,
) -> list[Probed]:  # fmt: skip
    """Let a policy explore the tools of a world, and return the trials of each.

    ``task`` is one that the world starts (None: one without a prompt); ``settings`` are further fields of ``Dialogue``.
    """
    read: ReadSolved = said_no if reference else solved_in

    def play(tool: Tool, session: Session) -> Flow[Probed]:
        begin = partial(Dialogue, session, read=read, **settings)
        return (yield from imagine(tool, begin, episodes=episodes, slots=slots, memory=memory, reflects=reflects))

    return probe_tools(play, world, policy, task=task, only=only, seed=seed)[0]


def _kept(tool: Tool, trials: Sequence[Trial], target: int, most: int) -> Flow[list[Completion]]:
    """Filter the trials of a tool by a judge, put their requests in other words, and return what is learned."""
    able = [trial for trial in trials if usable(trial)]
    good = yield from together(*(judged_trial(tool, trial) for trial in able))
    kept = [trial for trial, fine in zip(able, good, strict=True) if fine]
    if not kept:
        return []
    count = paraphrase_count(len(kept), target=target, most=most)
    others = yield from together(*(paraphrases(trial.query, count) for trial in kept))
    return [item for trial, words in zip(kept, others, strict=True) for item in trial_records(tool, trial, words)]


def examples(
    world: World, probed: Sequence[Probed], policy: Policy | Mapping[str, Policy], *, task: Task | None = None,
    target: int = 150, most: int = 6, seed: int = 0,
) -> list[Completion]:  # fmt: skip
    """Return what is learned of trials: those that a judge lets pass, with paraphrases, some ``target`` per tool."""

    def flow(session: Session) -> Flow[list[Completion]]:
        tools = {tool.name: tool for tool in session.tools}
        parts = yield from together(*(_kept(tools[one.tool], one.trials, target, most) for one in probed))
        return [item for part in parts for item in part]

    return played_flow(flow, world, policy, task=task, seed=seed)


def method(
    base: Recipe, world: World, *, explorer: Policy | Mapping[str, Policy] | None = None, episodes: int = 15,
    slots: int = 4, target: int = 150, seed: int = 0, learning_rate: float = 2e-5, **settings: Any,
) -> Method:  # fmt: skip
    """Return fine-tuning on trials of a world's tools that ``explorer`` (None: the policy itself) makes and judges.

    ``settings`` are those of the stage; the paper learns for 2 epochs in batches of 16.
    """
    from ferrule.train.stage import sft

    def rows(policy: Any, lap: int) -> Drawn:
        (task,) = world.tasks("train", 1, seed=seed)
        who = explorer or policy
        probed = explored(world, who, task=task, episodes=episodes, slots=slots, seed=seed + lap)
        items = examples(world, probed, who, task=task, target=target, seed=seed + lap)
        if not items:
            raise ValueError("no trial was good enough to learn from; a larger model as explorer may do better")
        return Drawn([laid_out(item, policy.renderer, policy.encode) for item in items])

    how = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "warmup_ratio": 0.03, **settings}
    return Method((sft(rows, learning_rate=learning_rate, **how),))


def continual(
    batches: Sequence[Sequence[Record]], *, share: float = 0.1, general: Sequence[Record] = (), count: int = 2000,
    learning_rate: float = 2e-5, **settings: Any,
) -> Method:  # fmt: skip
    """Return fine-tuning in rounds, one per batch of tools, each with a ``share`` of the items of earlier batches.

    ``settings`` are those of every stage.
    """
    from ferrule.train.stage import from_records, sft

    def stage(place: int) -> Any:
        data: Data = from_records(with_replay(batches, place, share=share, general=general, count=count))
        return sft(data, learning_rate=learning_rate, **settings)

    return Method(tuple(stage(place) for place in range(len(batches))))


@dataclass(frozen=True)
class CallShares:
    """Shares in percent: of well-formed calls, of right tools among these, and of right calls among all."""

    wellformed: float
    matched: float
    right: float


def scores(calls: Sequence[Call | None], golds: Sequence[Call]) -> CallShares:
    """Score the first call of each reply beside the right one; None is an answer without a call, and not well-formed.

    Arguments are right where each of the right call's has an equal text, without blanks around it and in any case;
    further ones do not count. Raises ``ValueError`` without calls.
    """
    if not golds:
        raise ValueError("no calls to score; the least is 1")
    pairs = [(call, gold) for call, gold in zip(calls, golds, strict=True) if call is not None and not call.problem]
    same = [(call, gold) for call, gold in pairs if call.name == gold.name]
    right = sum(all(_plain(call, name) == _plain(gold, name) for name in gold.arguments) for call, gold in same)
    matched = 100 * len(same) / len(pairs) if pairs else 0.0
    return CallShares(100 * len(pairs) / len(golds), matched, 100 * right / len(golds))


def _plain(call: Call, name: str) -> str | None:
    return str(call.arguments[name]).strip().lower() if name in call.arguments else None


def teach(
    agent: Agent, policy: Policy, world: World, tasks: Sequence[Task], seed: int, *, slots: int = 1, count: int = 3
) -> Taught:
    """Recall the ``count`` nearest trials of ``slots`` per tool that each training task offers (``Teach``).

    Requests are acted on apart from the dialogue, which small models do not follow.
    """
    trials: list[Trial] = []
    for task in tasks:
        probed = explored(
            world, policy, task=task, episodes=1, slots=slots, seed=seed, turns=2, max_tokens=96, apart=True
        )
        trials += [trial for one in probed for trial in one.trials if usable(trial)]
    return Taught(agent, memory=trial_memory(trials, count=count), size=len(trials))


PAPER = Paper(
    number=19,
    slug="ste",
    title="LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error",
    date="2024-03",
    url="https://arxiv.org/abs/2403.04746",
    pieces={
        "explore": explored,
        "dialogue": Dialogue,
        "examples": examples,
        "in_context": shown_trials,
        "memory": trial_memory,
        "paraphrases": paraphrase_count,
        "replay": with_replay,
        "continual": continual,
        "method": method,
        "scores": scores,
        "teach": teach,
    },
    summary="Imagines requests for a tool, tries and judges them with two memories, and learns from what is left.",
    reported=(
        "750 test items, right without examples, with them, after fine-tuning: Llama-2-chat-7B 10.7, 41.7, 73.3 "
        "%; GPT-4 60.8 and 76.3 % (authors' code and outputs)."
    ),
)
