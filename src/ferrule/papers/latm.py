"""Large Language Models as Tool Makers (paper 43), May 2023.

https://arxiv.org/abs/2305.17126

A strong model writes one function for a class of questions from three examples, tests it on three more, and wraps it
with usage examples. A weak model then only turns each new question into a call of that function, so that the cost of
making is paid once. A dispatcher says to which class a question belongs, or that it is of none, for which a new tool is
made.

The dialogue of the maker, the user and the dispatcher are in ``agents.toolmaking``, the tasks in ``worlds.reasoning``.
``ferrule forge`` and ``agents.forge`` make tools by the same split and examine them more strictly: their schema,
effects and contract, whether results differ from run to run, whether tests notice changes, and what a critic says.

Departures from the paper:

1. Code runs isolated, with a time limit, and in a fresh interpreter each time, so that leftovers of a failed function
   cannot make a later test pass.
2. Tests count when they carry out an assertion for every question; a test that is defined and never called passes in
   the published code.
3. Where no function runs, making ends; the published code asks for tests of the broken source. The proposal stands in
   the dialogue once (published: twice after a success).
4. Requests are in words of our own. The maker is told to keep parts of a class apart as arguments, as published.
5. A class is ``meta["class"]`` of a task; variants of one problem that share a tool have one class.
6. ``makes`` begins the whole dialogue anew where tests fail to the end; the paper makes each tool once (``makes=1``).
7. The answer of a reply is read as a literal of the variable that is assigned last with a name beginning with ``ans``.
   Code that fails gives no answer (published: the answer "Error"). Numbers and letters name options only where the
   question has some (published: everywhere). No value and pairs are times in every class, as published.
8. A class is split into its first three tasks and the next three (published: three of the first five, and three of
   the next five). ``served`` makes a tool for a question that the dispatcher calls unknown, from solved questions that
   ``examples`` returns for it.
9. Tasks are drawn anew (``worlds.reasoning``); the published ones come from BIG-bench and are not part of Ferrule.
10. The claim has scripts for models: a maker whose sources are right or have one of four real defects, run for real.
    Another has the pocket model as the user of a tool that was forged, or that nobody tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.agents.toolmaking import ToolUser, WrappedTool, dispatched, make_wrapped, normalised
from ferrule.core.flows import Flow, Session
from ferrule.core.records import Answer, Task
from ferrule.rollout.drive import Policies, drive
from ferrule.rollout.spent import Spent, added
from ferrule.studies.paper import Paper
from ferrule.worlds.session import Toolbox

__all__ = ["PAPER", "MadeTools", "break_even", "cost", "made_tools", "making", "served", "split"]


def split(tasks: Sequence[Task], *, train: int = 3, validation: int = 3) -> tuple[Sequence[Task], Sequence[Task]]:
    """Return the tasks that a function is proposed from and those that it is tested on: the first, and the next.

    Raises ``ValueError`` where there are too few.
    """
    if len(tasks) < train + validation:
        raise ValueError(f"{len(tasks)} tasks are too few: {train} are shown and {validation} test the function")
    return tasks[:train], tasks[train : train + validation]


def making(
    train: Sequence[Task],
    validation: Sequence[Task],
    *,
    makes: int = 1,
    tries: int = 3,
    verify: bool = True,
    **how: Any,
) -> Flow[WrappedTool]:
    """Make a tool, beginning anew at most ``makes`` times in all while its tests fail; ``asks`` counts all of them.

    ``how`` are further keywords of ``ferrule.agents.toolmaking.make_wrapped``.
    """
    asks = 0
    for _ in range(makes):
        wrapped = yield from make_wrapped(train, validation, tries=tries, verify=verify, **how)
        asks += wrapped.asks
        if wrapped.text:
            break
    return replace(wrapped, asks=asks)


@dataclass(frozen=True)
class MadeTools:
    """The agent that uses what was made, and what each role took for it."""

    user: ToolUser
    spent: Mapping[str, Spent] = field(default_factory=dict)


def made_tools(
    classes: Mapping[str, Sequence[Task]], policies: Policies, *, dispatch: bool = True, seed: int = 0, train: int = 3,
    validation: int = 3, user: ToolUser | None = None, **how: Any,
) -> MadeTools:  # fmt: skip
    """Make a tool for every class of tasks and return the agent that uses them, beside those that ``user`` has.

    With ``dispatch`` the role ``dispatcher`` is asked for the class of a question, shown the first task of each class;
    else ``meta["class"]`` says it. ``how`` are keywords of ``making``.
    """
    user, parts = user or ToolUser(), list[Mapping[str, Spent]]()
    for name, tasks in classes.items():
        shown, held = split(tasks, train=train, validation=validation)
        box: list[WrappedTool] = []

        def agent(task: Task, session: Session, shown: Any = shown, held: Any = held, box: Any = box) -> Flow[str]:
            box.append((yield from making(shown, held, **how)))
            return str(box[0].source)

        (episode,) = drive(agent, [Task(f"make/{name}", "Make a tool.")], Toolbox(()), policies, seed=seed)
        if episode.problem:
            raise RuntimeError(f"no tool for {name!r} could be made: {episode.problem}")
        known = {**user.known, name: shown[0].prompt} if dispatch else user.known
        user = replace(user, tools={**user.tools, name: box[0]}, known=known)
        parts.append(episode.spent)
    return MadeTools(user, added(parts))


def served(
    tasks: Sequence[Task], policies: Policies, examples: Callable[[Task], tuple[str, Sequence[Task]]], *,
    user: ToolUser | None = None, seed: int = 0, **how: Any,
) -> tuple[list[Answer], MadeTools]:  # fmt: skip
    """Answer tasks in order, making a tool whenever a question belongs to no known class; return answers and tools.

    ``examples(task)`` names the class of an unknown question and returns solved questions of it. A class is made once:
    where that failed its questions get no answer. ``how`` are keywords of ``making``.
    """
    made, answers, parts = MadeTools(user or ToolUser()), list[Answer](), list[Mapping[str, Spent]]()
    tried: set[str] = set(made.user.tools)
    for task in tasks:
        (episode,) = drive(made.user, [task], Toolbox(()), policies, seed=seed)
        parts.append(episode.spent)
        answer = episode.trajectories[0].answer if episode.trajectories else None
        if "solver" not in episode.spent:  # the dispatcher said unknown, or there is no tool yet
            name, solved = examples(task)
            if name not in tried:
                tried.add(name)
                made = made_tools({name: solved}, policies, user=made.user, seed=seed, **how)
                parts.append(made.spent)
                (episode,) = drive(replace(made.user, known={}), [_of(task, name)], Toolbox(()), policies, seed=seed)
                parts.append(episode.spent)
                answer = episode.trajectories[0].answer if episode.trajectories else None
        answers.append(answer)
    return answers, MadeTools(made.user, added(parts))


def _of(task: Task, name: str) -> Task:
    """Return a task with its class, which is known once a tool was made for it."""
    return replace(task, meta={**task.meta, "class": name})


def cost(spent: Mapping[str, Spent], prices: Mapping[str, float]) -> float:
    """Return what asks cost: their number by role times the price of one; a role without a price is free."""
    return sum(took.asks * prices.get(role, 0.0) for role, took in spent.items())


def break_even(making: float, strong: float, weak: float) -> int:
    """Return the number of questions from which making a tool is no dearer: ``ceil(making / (strong - weak))``.

    ``making`` is the cost of the tool, ``strong`` that of one direct answer, ``weak`` that of one call of the tool.
    Raises ``ValueError`` where a call is not cheaper than a direct answer.
    """
    if weak >= strong:
        raise ValueError(f"a call for {weak} is not cheaper than an answer for {strong}, so a tool never pays")
    return math.ceil(making / (strong - weak))


PAPER = Paper(
    number=43,
    slug="latm",
    title="Large Language Models as Tool Makers",
    date="2023-05",
    url="https://arxiv.org/abs/2305.17126",
    pieces={
        "maker": make_wrapped,
        "making": making,
        "user": ToolUser,
        "dispatcher": dispatched,
        "answers": normalised,
        "tools": made_tools,
        "served": served,
        "cost": cost,
        "break_even": break_even,
    },
    summary="Lets a strong model write and test one function per class of questions, which a weak model calls.",
    reported=(
        "GPT-4 makes, GPT-3.5 uses, against its chain of thought: logical deduction 79.7 and 66.4 %, word sorting "
        "98.3 and 59.2 %, scheduling 100 and 18.9 % (as recalled from the paper's table, not checked)."
    ),
)
