"""LATM with the pocket model as the user: a tool that was forged, one that nobody tested, and no tool."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, Tool, plain_text
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.forged import forge_tools
from ferrule.policies.scripted import Scripted
from ferrule.studies.conditions import at_least, less
from ferrule.studies.study import Study
from ferrule.tools.forge_run import runnable
from ferrule.worlds.reasoning import Reasoning
from ferrule.worlds.session import Toolbox

__all__ = ["STUDY", "arm", "made_tool"]

WORLD, LEVELS, HELD_OUT = Reasoning(classes=("word_sorting",)), (1, 2), 10_000
SOURCE = '''
def sort_words(words: str) -> str:
    """Sort words alphabetically.

    Args:
        words: the words, with spaces between them
    """
    return " ".join(sorted(words.split()))
'''.strip()
TESTS = """
assert sort_words("pear fig apple") == "apple fig pear"
assert sort_words("") == ""
assert sort_words("b a b") == "a b b"
assert sort_words("one two three four") == "four one three two"
"""
DEFECTS = (
    ("sorted(words.split())", "sorted(words.split(), reverse=True)"),
    ("sorted(words.split())", "sorted(words.split(), key=len)"),
    ("sorted(words.split())", "sorted(words.split())[1:]"),
    ("words.split()", "words"),
)
"""What stands in the right source, and what takes its place."""


def _maker(seed: int, right: float) -> Any:
    """Return a script that proposes a source, right with a chance, and draws anew when it is told of a fault."""

    def write(ask: Ask, sample: int) -> str:
        if plain_text(ask.messages[-1]).startswith("Here are further"):
            return f"```python\n{TESTS}```"
        rng = random.Random(f"{seed}/{len(ask.messages)}")
        source = SOURCE if rng.random() < right else SOURCE.replace(*rng.choice(DEFECTS))
        return f"```python\n{source}\n```"

    return write


def made_tool(seed: int, *, tested: bool, right: float = 0.5) -> Tool | None:
    """Return the tool that a maker writes; a ``tested`` one was forged, and is None where that failed to the end.

    A call of it answers the question.
    """
    solved = [
        replace(task, meta={**task.meta, "arguments": {"words": " ".join(task.meta["arguments"]["words"])}})
        for task in WORLD.tasks("train", 6, seed=seed, levels=LEVELS)
    ]
    maker = Scripted(_maker(seed, right))
    if not tested:
        (reply,) = maker.generate([Ask((Message("user", ""),))])[0]
        source = plain_text(reply.message).removeprefix("```python\n").removesuffix("\n```")
        return replace(runnable(source), terminal=True)
    policies = {"maker": maker, "critic": Scripted(lambda ask, sample: "AGREE")}
    shelf = forge_tools({"word_sorting": solved}, policies, rounds=6, seed=seed).shelf
    if not shelf.offered:
        return None
    return replace(runnable(shelf.offered[0].proposal.source), terminal=True)


def _shown(solved: Sequence[Task]) -> tuple[Message, ...]:
    """Return worked examples: a question, the call, what it gave, and that it is the answer."""
    messages: list[Message] = []
    for number, task in enumerate(solved):
        call = Call("sort_words", {"words": " ".join(task.meta["arguments"]["words"])}, id=f"call_{number}")
        answer = Message("tool", str(task.answer), name=call.name, call_id=call.id)
        messages += [Message("user", task.prompt), Message("assistant", "", (call,)), answer]
        messages.append(Message("assistant", str(task.answer)))
    return tuple(messages)


def arm(*, seed: int, tasks: int, tool: str = "", examples: int = 0) -> dict[str, float]:
    """Play held-out tasks: the share that is right, and the share that got an answer."""
    from ferrule.policies.named import load

    policy: Any = load("pocket", device="cpu")
    made = made_tool(seed, tested=tool == "forged") if tool else None
    shown = _shown(WORLD.tasks("train", examples, seed=HELD_OUT + seed, levels=LEVELS)) if examples else ()
    todo = [
        replace(task, messages=(*shown, Message("user", task.prompt)) if shown else ())
        for task in WORLD.tasks("test", tasks, seed=seed, levels=LEVELS)
    ]
    agent = ToolLoop(turns=2 if made else 1, max_tokens=96)
    evaluation = evaluate(agent, policy, Toolbox((made,) if made else ()), todo, temperature=0.0, seed=seed)
    answered = sum(row.answer is not None for row in evaluation.rows)
    return {"success": sum(row.score for row in evaluation.rows) / tasks, "answered": answered / tasks}


ALONE, FORGED, UNTESTED, SHOWN = "alone", "forged tool", "tool without tests", "forged tool, worked examples"
STUDY = Study(
    paper="latm",
    part="pocket",
    statement="A small model calls a forged tool for what it cannot do itself, and an untested tool is worth less.",
    falsifier="The forged tool adds less than 0.2 to the right answers, or not more than an untested one.",
    grade="B",
    trained="nothing: the pocket model as it is shipped, on sorting words; the maker is a script",
    models=("pocket",),
    arms={
        ALONE: arm,
        FORGED: partial(arm, tool="forged"),
        UNTESTED: partial(arm, tool="untested"),
        SHOWN: partial(arm, tool="forged", examples=2),
    },
    asks=(
        at_least("right answers with the forged tool minus alone", less("success", FORGED, ALONE), 0.2),
        at_least("right answers with the forged tool minus an untested one", less("success", FORGED, UNTESTED), 0.0),
        at_least(
            "right answers that worked examples add",
            less("success", SHOWN, FORGED),
            0.0,
            decides=False,
        ),
    ),
    sizes={"small": {"tasks": 60}, "tiny": {"tasks": 6}},
    seeds=tuple(range(100, 112)),
    setup={"a maker is right": 0.5, "rounds": 6, "levels": list(LEVELS)},
)
