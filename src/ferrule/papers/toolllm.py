"""ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs (paper 45), July 2023.

https://arxiv.org/abs/2307.16789

A model learns to use thousands of web APIs from solution paths that a stronger one found by a depth-first search, which
goes back from dead ends; finishing and giving up are calls of one tool. Answers are judged by a model: do they pass,
and which of two wins. The search itself is ``ferrule.agents.depth_first``, verdicts are ``ferrule.rewards.tooleval``,
comparisons ``ferrule.rewards.pairwise``, trees and documents of the release ``ferrule.data.toolbench``, and measures of
retrieval ``ferrule.evaluate.ranking``.

Departures from the paper:

1. A depth counts steps, not nodes, of which a step has two or three there: 4 for 12.
2. A give-up right below the beginning goes on with the next step; ``reference=True`` ends the search, as published.
3. The name of an unknown tool stays as it was written, since ids are never written anew; the release puts a marker in
   its place. Names are matched in full; ``finishing(reference=True)`` also takes the end of one (``get`` for
   ``foo_get``).
4. A reply without a call gives up where Finish is on offer; the release asks again after it. Where a world has no
   Finish, an answer in text ends the path.
5. Codes 7 and 8 are unauthorised and unsubscribed; the release's texts swap them in places. What a tool says itself
   (``data["code"]``) counts before what is read from its text.
6. The coin of an unsure verdict is seeded, and 0 makes it strict; what a judge says unreadably is a failure. Pairs are
   judged in both orders; ``reference=True`` shows one, as the release does in effect. Equal answers tie.
7. Texts of prompts and of questions to judges are worded anew. The longer context by position interpolation is a
   property of the model. Instructions for sampled APIs are written by ``ferrule.data.instructions``. The dense
   retriever is a sum of word vectors trained by the same loss, with hard negatives beside those of the batch
   (``ferrule.tools.encoder``), not BERT. Any retrieval is measured by ``ndcg``, whose ``reference=True`` counts only
   what was returned, as published (the release chooses its model by the least of three depths).
8. In the filtered form all steps at a place are drawn in one batch, so none is told of the others. Descriptions of
   whole tools, which the release adds to the system text cut to 512 characters, are left out; those of APIs are cut to
   256 by ``ferrule.data.toolbench.api_tool``.
9. The claim is measured on a generated graph of tools whose model is a script, and on the pocket model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ferrule.agents.depth_first import DepthFirst, Order
from ferrule.agents.search import Budget, Node, Stuck, no_answer
from ferrule.core.acting import Place, act
from ferrule.core.flows import Flow, Session, World
from ferrule.core.recipe import Method, Recipe
from ferrule.core.records import Answer, Call, Observation, Task, Tool, Trajectory, plain_text
from ferrule.data.trees import solutions
from ferrule.rewards.pairwise import better_of, win_counts
from ferrule.rewards.tooleval import Votes, judged_pass
from ferrule.studies.paper import Paper
from ferrule.tools.effects import branch
from ferrule.tools.invoke import invoke
from ferrule.worlds.shown import shown
from ferrule.worlds.wrap import Wrapped

__all__ = [
    "CODES", "PAPER", "SYSTEM", "Finishing", "PassJudge", "as_observed", "by_judge", "chain", "code_of",
    "finish_tool", "finished", "finishing", "gave_up", "items", "method", "searching", "votes_of",
]  # fmt: skip

CODES: Mapping[int, str] = {
    0: "ok", 1: "unknown API", 2: "bad input", 3: "final answer", 4: "gave up", 5: "time-out", 6: "not working",
    7: "unauthorised", 8: "unsubscribed", 9: "too many requests", 10: "rate limit", 11: "message error",
    12: "send error",
}  # fmt: skip
"""What the status codes of a call mean; 3 alone ends with success, and 4 alone ends a path without."""
SOLVED, GAVE_UP = 3, 4
SYSTEM = (
    "Solve the task by calling functions, one after the other: think briefly, call one, read the result. When you are "
    "done, call Finish with give_answer and an answer that says all that was asked for. If you cannot go on from here, "
    "call Finish with give_up_and_restart."
)
_STATUSES = {"ok": 0, "unknown_tool": 1, "malformed": 2, "timeout": 5, "refused": 10}
_WORDS = {
    "not working": 6, "404": 6, "unauthorized": 7, "401": 7, "unsubscribed": 8, "not subscribed": 8, "429": 9,
    "too many requests": 9, "rate limit": 10, "message error": 11,
}  # fmt: skip
"""Words of an error's text by which its code is known, the first that stands in it."""


def code_of(observation: Observation) -> int:
    """Return the status code of a call (``CODES``): that in its data, else by its status, else by words of its text."""
    data = observation.data
    if isinstance(data, Mapping) and isinstance(data.get("code"), int) and data["code"] in CODES:
        return int(data["code"])
    if observation.status != "error":
        return _STATUSES[observation.status]
    text = observation.text.lower()
    return next((code for words, code in _WORDS.items() if re.search(rf"\b{words}\b", text)), 12)


def as_observed(observation: Observation, *, limit: int = 1024) -> Observation:
    """Return an observation cut to ``limit`` characters and "...", with its status code in ``data["code"]``.

    One that ends the episode is its answer, and is not cut.
    """
    text, data = observation.text, observation.data
    known = dict(data) if isinstance(data, Mapping) else {} if data is None else {"value": data}
    short = text if observation.terminal or len(text) <= limit else f"{text[:limit]}..."
    return replace(observation, text=short, data={**known, "code": code_of(observation)})


def _finish(return_type: str, final_answer: str = "") -> Observation:
    solved = return_type == "give_answer"
    code = SOLVED if solved else GAVE_UP
    return Observation(final_answer if solved else "", terminal=True, data={"code": code})


def finish_tool() -> Tool:
    """Return the tool that ends an episode with an answer, or gives up with an empty one."""
    kinds = {"type": "string", "enum": ["give_answer", "give_up_and_restart"]}
    answer = {"type": "string", "description": "the whole answer, with give_answer"}
    schema = {
        "type": "object", "properties": {"return_type": kinds, "final_answer": answer}, "required": ["return_type"],
    }  # fmt: skip
    text = "End with the final answer, or give up where you cannot go on."
    return Tool("Finish", text, schema, run=_finish, terminal=True)


class Finishing:
    """``session`` with the tool Finish beside its own; ``reference`` also finds tools by the end of their name."""

    def __init__(self, session: Session, *, reference: bool = False) -> None:
        self.session, self.reference, self._finish = session, reference, finish_tool()
        self._offered: tuple[Tool, ...] = ()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the session and Finish; the same tuple as long as they stay the same."""
        offered = (*self.session.tools, self._finish)
        if offered != self._offered:
            self._offered = offered
        return self._offered

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call."""
        if self.reference and call.name and not call.problem:
            names = [tool.name for tool in self.tools]
            if call.name not in names:
                call = replace(call, name=next((name for name in names if name.endswith(call.name)), call.name))
        if call.name == self._finish.name and not call.problem:
            return invoke(self._finish, call)
        return act(self.session, call, place)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def fork(self, *, irreversible: bool = False) -> Finishing:
        """Return an independent branch."""
        return Finishing(branch(self.session, irreversible), reference=self.reference)

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()


def _wrap(session: Session, task: Task, seed: int, *, reference: bool) -> Session:
    return Finishing(session, reference=reference)


def finishing(world: World, *, limit: int = 1024, reference: bool = False) -> Wrapped:
    """Return ``world`` with Finish on offer, observations cut to ``limit`` characters, and a code for every call."""
    return shown(Wrapped(world, partial(_wrap, reference=reference)), partial(as_observed, limit=limit))


def gave_up(node: Node) -> bool:
    """Tell whether a step chose to give up, or neither called nor answered.

    Where Finish is on offer an answer in text gives up as well.
    """
    if any(code_of(observation) == GAVE_UP for observation in node.observations):
        return True
    must_finish = any(tool.name == "Finish" for tool in node.session.tools)
    return no_answer(node) or (must_finish and node.reply is not None and not node.reply.message.calls)


def searching(
    *, width: int = 2, depth: int = 4, asks: int = 200, answers: int = 1, order: Order | None = None,
    stuck: Stuck = gave_up, reference: bool = False, system: str = SYSTEM, **more: Any,
) -> DepthFirst:  # fmt: skip
    """Return DFSDT: depth-first search in which giving up leads back; with ``order`` its filtered form.

    ``asks`` is the most asks; with ``order`` each draws ``width`` replies, and those of a judge are not counted.
    ``more`` are further fields of ``DepthFirst``.
    """
    budget = more.pop("budget", Budget(asks=asks))
    return DepthFirst(
        width=width, depth=depth, budget=budget, answers=answers, order=order, reference=reference, stuck=stuck,
        system=system, **more,
    )  # fmt: skip


def chain(times: int = 1, **more: Any) -> DepthFirst:
    """Return chain@n: a single chain, begun anew up to ``times`` times; ``more`` are those of ``searching``."""
    return searching(width=1, restarts=times - 1, **more)


def by_judge(*, role: str = "judge", key: str = "better") -> Order:
    """Return the order of filtered search: a judge compares every two steps in both orders, and wins are counted."""

    def order(task: Task, nodes: Sequence[Node]) -> Flow[Sequence[float]]:
        question = better_of(f"Task:\n{task.prompt}\n\nTwo attempts so far. Which is nearer to solving it?")
        return (yield from win_counts([_told(node) for node in nodes], question, role=role, key=key))

    return order


def _told(node: Node) -> str:
    """Return the steps on the way to a step as text."""
    lines: list[str] = []
    for step in reversed(list(node.path())):
        assert step.reply is not None
        calls = [f"{call.name}({dict(call.arguments)})" for call in step.reply.message.calls]
        lines += [plain_text(step.reply.message), *calls, *(observation.text for observation in step.observations)]
    return "\n".join(filter(None, lines))


def finished(trajectory: Trajectory) -> Answer:
    """Return the answer of the call of Finish that ended an episode, "" where it gave up, None without such a call."""
    ends = [o for _, o in trajectory.calls if o.terminal and code_of(o) in (SOLVED, GAVE_UP)]
    return ends[-1].text if ends else None


def items(trajectories: Sequence[Trajectory], tools: Sequence[Tool] = ()) -> list[Task]:
    """Return a task for a judge per episode: its query, with the answer of Finish and the calls made as ``meta``.

    ``tools`` are those that were on offer, by which the judge says whether a task that is not solved can be.
    """
    tasks = []
    offered = "\n".join(f"{tool.name}: {tool.description}" for tool in tools)
    for number, path in enumerate(trajectories):
        told = [f"{call.name}({dict(call.arguments)})\n{observation.text}" for call, observation in path.calls]
        meta = {"answer": finished(path), "path": "\n".join(told), "tools": offered}
        tasks.append(Task(f"{path.task.id}/judge/{number}", path.task.prompt, meta=meta, tools=()))
    return tasks


@dataclass(frozen=True)
class PassJudge:
    """Judge whether an answer passes (a task of ``items``) by repeated votes; the answer says how many passed it.

    Fields are those of ``ferrule.rewards.tooleval.judged_pass``. The episode keeps every vote.
    """

    votes: int = 4
    unsure: float = 0.5
    unsolvable_passes: bool = True
    role: str = "judge"

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Judge one answer."""
        counted = yield from judged_pass(
            task.prompt, task.meta.get("answer"), task.meta.get("path", ""), tools=task.meta.get("tools", ""),
            votes=self.votes, unsure=self.unsure, unsolvable_passes=self.unsolvable_passes, role=self.role,
        )  # fmt: skip
        return f"{counted.passes} of {self.votes}"


def votes_of(answer: str) -> Votes:
    """Return the votes that an answer of ``PassJudge`` tells."""
    passes, _, votes = answer.partition(" of ")
    return Votes(int(passes), int(votes) - int(passes))


def method(
    base: Recipe, world: World, *, tasks: int = 16, levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0,
    rounds: int = 1, steps: int = 50, **search: Any,
) -> Method:  # fmt: skip
    """Return learning from the ways to success that searches find: ``tasks`` tasks a round, ``rounds`` times.

    The loss is on the model's own turns; ``search`` are settings of ``searching``. System text, reply length and stop
    strings are those of the base's agent, and success is judged by its reward.
    """
    from ferrule.train.stage import searched, sft

    kept = {name: getattr(base.agent, name) for name in ("system", "max_tokens", "stop") if hasattr(base.agent, name)}
    agent = searching(**{**kept, **search})
    data = searched(agent, world, solutions, tasks=tasks, levels=levels, seed=seed, reward=base.reward)
    return Method((sft(data, max_steps=steps),), rounds=rounds)


PAPER = Paper(
    number=45,
    slug="toolllm",
    title="ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs",
    date="2023-07",
    url="https://arxiv.org/abs/2307.16789",
    pieces={
        "agent": searching,
        "chain": chain,
        "order": by_judge,
        "world": finishing,
        "judge": PassJudge,
        "method": method,
    },
    summary="Searches depth-first and goes back from dead ends; trains on the ways that led to an answer.",
    reported=(
        "Average pass rate by ReAct and by DFSDT: ChatGPT 40.2 and 64.8 %, ToolLLaMA 29.0 and 66.7 % (release notes)."
    ),
)
