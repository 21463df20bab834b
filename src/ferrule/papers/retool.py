r"""ReTool: Reinforcement Learning for Strategic Tool Use in LLMs (paper 17), April 2025.

https://arxiv.org/abs/2504.11536

A model stops in the middle of its reasoning, runs Python, reads the output and goes on, and learns when to do so from
the outcome alone. First a cold start: text solutions are rewritten so that hand computation becomes code with its
output, filtered twice, and learned by supervised fine-tuning with the output masked. Then reinforcement learning with a
reward of +1 or -1 for the final answer and nothing for running code.

Departures from the paper:

1. Rewritten blocks are executed again and their output is compared; format and answer checks alone let invented
   results through.
2. Rewards read the last ``\boxed{}`` of the final answer and compare it by the task's own verifier.
3. Generation stays token-exact: the closing tag and the result are inserted tokens and are never trained on. Only the
   conversion of finished texts works on characters, where the mask covers the interpreter block.
4. The last line of a script is echoed by the tool in the same run. The released code runs everything but the last line
   a second time to echo a value, so that side effects happen twice.
5. The paper trains by PPO with a critic (``recipe``); its discount and lambda are not stated, 1 and 0.95 are choices.
   ``community_recipe`` is the recipe of a public trainer: group advantages, clip 0.2 and 0.28, dual clip 10, and
   ``community_reward``, which pays for calls on wrong answers. It is not the paper's reward.
6. The claim trains the pocket model, whose own training is the cold start, on arithmetic beyond its head, with group
   advantages (``small_recipe``) because a critic learns nothing useful in so few steps. The ablation that trains on
   tool output is left out: in this framework inserted tokens cannot be trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from ferrule.core.arrays import chain
from ferrule.core.paper import Claim, Paper
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Message, Observation, Score, Session, Task, Trajectory, World, plain_text
from ferrule.credit.group import group_relative, whiten
from ferrule.credit.returns import gae, value_targets
from ferrule.online.trials import at_least, conclude, describe
from ferrule.rewards.verify import verify

__all__ = [
    "PAPER",
    "ColdStart",
    "boxed",
    "claim",
    "code_of",
    "cold_start",
    "community_recipe",
    "community_reward",
    "loss_mask",
    "observation_text",
    "recipe",
    "result_text",
    "retool_reward",
    "rewrite_problem",
    "small_recipe",
    "to_messages",
    "to_text",
]

TOOL = "code_interpreter"
PROMPT = (
    "Solve the following problem step by step. You may write Python scripts and read their output; every script must "
    "be complete, imports included. Write code as\n<code>\n```python\n...\n```\n</code>\nand its output comes back as\n"
    "<interpreter>\n...\n</interpreter>\nEnd with\n<answer>\n\\boxed{...}\n</answer>"
)
"""System text of the tag grammar."""

_BLOCK = re.compile(
    r"<code>\s*```(?:python|py)?[ \t]*\n(?P<code>.*?)\n?```\s*</code>"
    r"|<interpreter>\n?(?P<result>.*?)\n?</interpreter>"
    r"|<answer>\s*(?P<answer>.*?)\s*</answer>",
    re.DOTALL,
)
_TAG = re.compile(r"</?(?:code|interpreter|answer)>")


def to_messages(text: str) -> list[Message]:
    r"""Split a text with inline blocks into chat messages.

    Every code block ends an assistant message with one call ``code_interpreter(code)``; every interpreter block is a
    tool message; the rest and the body of the answer block, joined by a blank line, are the last assistant message.
    Raises ``ValueError`` that says what is wrong: a stray tag, code without a result, a result without code, text after
    the answer.
    """
    messages: list[Message] = []
    waiting, answered, end = "", False, 0
    for found in _BLOCK.finditer(text):
        before = text[end : found.start()].strip()
        end = found.end()
        if _TAG.search(before):
            raise ValueError(f"stray tag in {before[:60]!r}")
        if answered:
            raise ValueError("a block follows the answer")
        if (found["result"] is None) == bool(waiting):
            raise ValueError("a code block has no result" if waiting else "a result has no code block")
        if found["code"] is not None:
            waiting = f"call_{sum(m.role == 'tool' for m in messages)}"
            call = Call(TOOL, {"code": found["code"]}, id=waiting)
            messages.append(Message("assistant", before, calls=(call,)))
        elif found["result"] is not None:
            if before:
                raise ValueError("text stands between a code block and its result")
            messages.append(Message("tool", found["result"].strip(), name=TOOL, call_id=waiting))
            waiting = ""
        else:
            messages.append(Message("assistant", "\n\n".join(part for part in (before, found["answer"]) if part)))
            answered = True
    rest = text[end:].strip()
    if waiting:
        raise ValueError("a code block has no result")
    if _TAG.search(rest) or (answered and rest):
        raise ValueError(f"stray tag or text at the end: {rest[:60]!r}")
    if rest:
        messages.append(Message("assistant", rest))
    return messages


def to_text(messages: Sequence[Message]) -> str:
    """Join messages to the inline text; the inverse of ``to_messages`` for texts in canonical spacing.

    The last paragraph of a final assistant message is the answer block when it holds a boxed value.
    """
    out = ""
    for message in messages:
        content = plain_text(message)
        if message.role == "tool":
            out += f"<interpreter>\n{content}\n</interpreter>\n\n"
        elif message.calls:
            out += content + ("\n" if content else "")
            out += f"<code>\n```python\n{message.calls[0].arguments['code']}\n```\n</code>\n"
        else:
            before, _, last = content.rpartition("\n\n")
            answer = f"<answer>\n{last}\n</answer>"
            out += (f"{before}\n{answer}" if before else answer) if "\\boxed{" in last else content
    return out


def loss_mask(text: str) -> list[bool]:
    """Say for every character whether it may carry loss: all but interpreter blocks, tags included."""
    mask = [True] * len(text)
    for found in re.finditer(r"<interpreter>.*?</interpreter>", text, re.DOTALL):
        mask[found.start() : found.end()] = [False] * (found.end() - found.start())
    return mask


def code_of(generated: str) -> str:
    """Return the code of a text that stopped at a closing code tag: what follows the last opening Python fence."""
    tail = generated.rpartition("```python")[2] if "```python" in generated else ""
    return tail.removesuffix("</code>").rstrip().removesuffix("```").strip()


def result_text(code: str, observation: Observation) -> str:
    """Return what the model reads for a result: the output, the last line of a traceback, ``None`` for empty code."""
    if not code.strip():
        return "None"
    lines = observation.text.strip().splitlines() or [""]
    return observation.text.strip() if observation.status == "ok" else lines[-1]


def observation_text(result: str) -> str:
    """Return the text inserted after a pause at a closing code tag, that tag included."""
    return f"</code>\n<interpreter>\n{result}\n</interpreter>\n\n"


def boxed(text: str | None) -> str | None:
    r"""Return the content of the last ``\boxed{...}`` with balanced braces, or None."""
    start = text.rfind("\\boxed{") if text else -1
    if text is None or start < 0:
        return None
    depth, first = 0, start + len("\\boxed")
    for i in range(first, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[first + 1 : i]
    return None


def _right(task: Task, trajectory: Trajectory, need_box: bool) -> bool:
    inner = boxed(trajectory.answer)
    answer = inner if need_box or inner is not None else trajectory.answer
    return verify(str(task.meta.get("verifier", "exact")), answer, task.answer) > 0.5


def retool_reward(
    task: Task, trajectories: Sequence[Trajectory], *, right: float = 1.0, wrong: float = -1.0, need_box: bool = True
) -> list[Score]:
    r"""Outcome reward of the paper: +1 when the last boxed value of the answer is right, else -1; nothing for code.

    ``need_box=False`` takes the whole answer when it holds no box. The part ``outcome`` is 1 or 0.
    """
    scores = []
    for trajectory in trajectories:
        good = _right(task, trajectory, need_box)
        scores.append(Score(value=right if good else wrong, parts={"outcome": float(good)}))
    return scores


def community_reward(
    task: Task, trajectories: Sequence[Trajectory], *, need_box: bool = True, bonus: float = 0.1, best: float = -0.6
) -> list[Score]:
    """Reward of a public recipe: right +1; wrong ``min(best, -1 + bonus (messages - 2) / 2)``.

    Messages are 2 without tools and 2 more per answered call. It pays for calls on wrong answers, so groups in which
    all are wrong train the model to call more.
    """
    scores = []
    for trajectory in trajectories:
        good = _right(task, trajectory, need_box)
        messages = 2 + 2 * len(trajectory.calls)
        value = 1.0 if good else min(best, -1.0 + bonus * (messages - 2) / 2)
        scores.append(Score(value=value, parts={"outcome": float(good)}))
    return scores


# ---------------------------------------------------------------------------------------------------------- cold start

Execute: TypeAlias = Callable[[str], Observation]
Rewrite: TypeAlias = Callable[[Task, str], str]


def rewrite_problem(task: Task, text: str, execute: Execute) -> str:
    """Say why a rewritten solution must be dropped, or return an empty string.

    Three passes: the tags parse and there is code; every block gives the stated result when executed again (last line
    of a traceback for failures); the boxed answer is right by the task's verifier.
    """
    try:
        messages = to_messages(text)
    except ValueError as error:
        return f"format: {error}"
    calls = [call for message in messages for call in message.calls]
    results = [plain_text(message) for message in messages if message.role == "tool"]
    if not calls:
        return "format: no code block"
    for call, stated in zip(calls, results, strict=True):
        code = str(call.arguments["code"])
        got = result_text(code, execute(code))
        if got.split() != stated.split():
            return f"result: {code[:60]!r} gives {got[:60]!r}, not {stated[:60]!r}"
    final = plain_text(messages[-1]) if messages[-1].role == "assistant" else ""
    if not verify(str(task.meta.get("verifier", "exact")), boxed(final), task.answer) > 0.5:
        return f"answer: {boxed(final)!r} is not {task.answer!r}"
    return ""


@dataclass(frozen=True)
class ColdStart:
    """Rewritten solutions that passed all checks, as ``(task, messages)``, and the reasons of those that did not."""

    kept: tuple[tuple[Task, tuple[Message, ...]], ...]
    dropped: tuple[tuple[Task, str], ...]


def cold_start(solutions: Iterable[tuple[Task, str]], rewrite: Rewrite, execute: Execute) -> ColdStart:
    """Rewrite text solutions with code by ``rewrite`` and keep those that ``rewrite_problem`` finds nothing wrong with.

    ``rewrite(task, solution)`` is a model or a template; ``execute(code)`` runs one script.
    """
    kept: list[tuple[Task, tuple[Message, ...]]] = []
    dropped: list[tuple[Task, str]] = []
    for task, solution in solutions:
        text = rewrite(task, solution)
        problem = rewrite_problem(task, text, execute)
        if problem:
            dropped.append((task, problem))
        else:
            kept.append((task, (Message("user", task.prompt), *to_messages(text))))
    return ColdStart(tuple(kept), tuple(dropped))


# ------------------------------------------------------------------------------------------------------------- recipes


def recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the paper's reward and PPO: GAE with a critic, clip 0.2, no KL."""
    from ferrule.objectives.penalty import add
    from ferrule.objectives.supervised import value_loss
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=retool_reward,
        credit=chain(partial(gae, gamma=1.0, lam=0.95), whiten),
        objective=add(partial(surrogate, lo=0.2, hi=0.2), value_loss, 0.5),
        critic=partial(value_targets, gamma=1.0, lam=0.95),
        reference=False,
    )


def community_recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the public recipe: its reward, group advantages, clip 0.2 and 0.28, dual clip 10, no KL."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=community_reward,
        credit=partial(group_relative, std="unbiased"),
        objective=partial(surrogate, lo=0.2, hi=0.28, dual=10.0),
        critic=None,
        reference=False,
        samples=16,
    )


def small_recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the paper's reward (no box asked for) and group advantages, for short runs."""
    return vary(community_recipe(base), reward=partial(retool_reward, need_box=False), samples=base.samples)


# ------------------------------------------------------------------------------------------------------------ the claim


@dataclass(frozen=True)
class Offering:
    """A world whose tasks offer the given tools only; ``()`` is the same tasks without tools."""

    world: World
    tools: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the world inside."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Tasks of the world inside with the tools replaced."""
        return [replace(task, tools=self.tools) for task in self.world.tasks(split, count, seed=seed, levels=levels)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session of the world inside."""
        return self.world.start(task, seed)


ARMS: dict[str, tuple[str, ...]] = {"text": (), "python": ("python",)}
"""Arms of the claim: the tools that the same model may use in the same training."""
LEVELS = (3, 4)
"""Levels of the arithmetic questions: two to three digits, beyond what the pocket model does in its head."""
SCALES = {"small": {"steps": 16, "every": 4, "tasks": 60}, "tiny": {"steps": 2, "every": 1, "tasks": 6}}
"""Training steps, steps between evaluations, and held-out tasks, by scale."""


def train_arm(tools: tuple[str, ...], *, seed: int, steps: int, every: int, tasks: int) -> dict[str, Any]:
    """Train the pocket model with or without the Python tool and return its held-out curve and final habits."""
    from ferrule.agents.react import ToolLoop
    from ferrule.bench.evaluate import evaluate
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate
    from ferrule.policies.local import load
    from ferrule.policies.pocket import WEIGHTS
    from ferrule.rewards.outcome import outcome
    from ferrule.train.loop import train
    from ferrule.train.settings import Settings
    from ferrule.worlds.arithmetic import Arithmetic

    world, agent = Offering(Arithmetic(), tools), ToolLoop(turns=3, max_tokens=64)
    policy = load(WEIGHTS)
    held_out = world.tasks("test", tasks, seed=10_000 + seed, levels=LEVELS)

    def measured(model: Any, step: int) -> dict[str, float]:
        found = evaluate(agent, model, world, held_out, seed=seed)
        return {
            "success": found.success,
            "calls": sum(row.calls > 0 for row in found.rows) / len(found.rows),
            "tokens": sum(row.tokens or 0 for row in found.rows) / len(found.rows),
        }

    curve = [measured(policy, 0)]

    def keep(model: Any, step: int) -> dict[str, float]:
        curve.append(measured(model, step))
        return curve[-1]

    base = Recipe(agent, outcome, group_relative, surrogate, token_mean, samples=8)
    settings = Settings(
        max_steps=steps, learning_rate=3e-4, per_device_train_batch_size=64, eval_steps=every, seed=seed, levels=LEVELS
    )
    with TemporaryDirectory() as folder:
        train(small_recipe(base), world, policy, settings, Path(folder), evaluate=keep)
    return {**curve[-1], "start": curve[0]["success"], "curve": [point["success"] for point in curve]}


def steps_to(curve: Sequence[float], level: float, every: int) -> float:
    """First training step at which a curve, measured every ``every`` steps, reaches ``level``; infinite if never."""
    return next((float(i * every) for i, value in enumerate(curve) if value >= level), float("inf"))


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2)) -> Claim:
    """Measure whether training with a Python tool passes text-only training of the same model in the same steps.

    Held when both hold by their 95 % intervals: success with the tool ends at least 20 points above text-only, and it
    reaches the text-only end in at most half of the steps. ``scale`` is ``"small"`` or ``"tiny"`` (to try the
    machinery).
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; known: {', '.join(sorted(SCALES))}")
    size = SCALES[scale]
    measured = {arm: [train_arm(tools, seed=seed, **size) for seed in seeds] for arm, tools in ARMS.items()}
    pairs = list(zip(measured["text"], measured["python"], strict=True))
    reached = [
        min(steps_to(tool["curve"], text["success"], size["every"]), 2.0 * size["steps"]) for text, tool in pairs
    ]
    conditions = [
        at_least(
            "success with Python minus text-only", [tool["success"] - text["success"] for text, tool in pairs], 0.2
        ),
        at_least("half less the share of steps to the text-only end", [0.5 - r / size["steps"] for r in reached], 0.0),
    ]
    names = ("start", "success", "calls", "tokens")
    return Claim(
        paper="retool",
        statement="Training with a code tool passes text-only training of the same model within the same steps.",
        measured=conditions[0].name,
        arms={arm: {name: [row[name] for row in rows] for name in names} for arm, rows in measured.items()},
        effect=conditions[0].effect,
        interval=conditions[0].interval,
        threshold=conditions[0].threshold,
        falsifier="Text-only training catches up within the same steps.",
        verdict=conclude(conditions),
        seeds=tuple(seeds),
        scale=scale,
        notes=tuple(describe(condition) for condition in conditions),
        setup={
            **size,
            "levels": list(LEVELS),
            "curves": {arm: [row["curve"] for row in rows] for arm, rows in measured.items()},
            "conditions": [condition.as_dict() for condition in conditions],
        },
    )


PAPER = Paper(
    number=17,
    slug="retool",
    title="ReTool: Reinforcement Learning for Strategic Tool Use in LLMs",
    date="2025-04",
    url="https://arxiv.org/abs/2504.11536",
    pieces={
        "reward": retool_reward,
        "community_reward": community_reward,
        "cold_start": cold_start,
        "to_messages": to_messages,
        "to_text": to_text,
        "loss_mask": loss_mask,
        "recipe": recipe,
        "community_recipe": community_recipe,
    },
    claim=claim,
    summary="Code inside the reasoning: a verified cold start, then outcome reward only, with tool output masked.",
)
