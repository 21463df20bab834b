"""Tasks that need the right workflow of their kind and the right setting in each of two situations.

A kind is told by its name, a situation only by words, of which some are missing and some mean nothing. A scripted agent
follows what it is told with probability 0.9 and guesses otherwise; what comes back of each step says with probability
0.1 the opposite of the truth. A scripted critic and a scripted writer learn from such rollouts and from nothing else.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn, plain_text
from ferrule.memory.entries import Change, Entry

__all__ = ["Situations", "critique", "follow", "pooled", "situations_of", "writer"]

KINDS, WORKFLOWS, SITUATIONS, SETTINGS = 5, 4, 8, 3
FOLLOWS, LIES = 0.9, 0.1


@dataclass(frozen=True)
class Situations:
    """What is right, drawn by a seed: a workflow for each kind, and a setting for each situation with its words."""

    seed: int

    def _drawn(self) -> tuple[list[int], list[int], list[list[str]], list[str]]:
        rng = random.Random(f"situations/{self.seed}")
        words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]
        rng.shuffle(words)
        bags = [words[8 * number : 8 * number + 8] for number in range(SITUATIONS)]
        workflows = [rng.randrange(WORKFLOWS) for _ in range(KINDS)]
        settings = [rng.randrange(SETTINGS) for _ in range(SITUATIONS)]
        return workflows, settings, bags, words[8 * SITUATIONS : 8 * SITUATIONS + 60]

    def tasks(self, split: str, count: int) -> list[Task]:
        """Return tasks whose prompt tells the kind and the words of both situations; ``meta`` has what is right."""
        workflows, settings, bags, noise = self._drawn()
        rng = random.Random(f"situations/{self.seed}/{split}")
        tasks = []
        for number in range(count):
            kind, pair = rng.randrange(KINDS), rng.sample(range(SITUATIONS), 2)
            told = [" ".join(rng.sample(bags[i], 4) + rng.sample(noise, 2)) for i in pair]
            right = {"workflow": workflows[kind], "settings": [settings[i] for i in pair]}
            tasks.append(Task(f"{split}/{number}", f"kind {kind}\n" + "\n".join(told), meta=right))
        return tasks


def situations_of(task: Task) -> list[str]:
    """Return the words of the situations of a task: the queries that its parts are recalled by."""
    return task.prompt.splitlines()[1:]


def _kind(text: str) -> str:
    return text.splitlines()[0]


def _told(text: str, task: Task) -> tuple[int | None, list[int | None]]:
    """Read what a text says of the workflow of a task, and of the setting for each situation."""
    counts = {int(w): int(n) for w, n in re.findall(rf"{_kind(task.prompt)}: workflow (\d) \(net (-?\d+)\)", text)}
    notes = [
        (set(words.split()), int(setting)) for words, setting in re.findall(r"If ([a-z ]+): use setting (\d)", text)
    ]
    settings: list[int | None] = []
    for words in situations_of(task):
        near = sorted(notes, key=lambda note: -len(note[0] & set(words.split())))
        settings.append(near[0][1] if near and len(near[0][0] & set(words.split())) > 1 else None)
    best = max(counts, key=lambda workflow: counts[workflow], default=None)
    return best if best is not None and counts[best] > 0 else None, settings


def follow(task: Task, text: str, rng: random.Random, ids: Sequence[str] = ()) -> tuple[Trajectory, Score, bool]:
    """Play a task with a text before the agent: the rollout, the share of steps that came back well, and the truth."""
    workflow, settings = _told(text, task)
    steps = [("workflow", workflow, WORKFLOWS, task.meta["workflow"])]
    for told, right in zip(settings, task.meta["settings"], strict=True):
        steps.append(("set", told, SETTINGS, right))
    calls, results, right_ones = [], [], []
    for name, told, count, right in steps:
        value = told if told is not None and rng.random() < FOLLOWS else rng.randrange(count)
        right_ones.append(value == right)
        well = right_ones[-1] != (rng.random() < LIES)
        calls.append(Call(name, {"value": value}))
        results.append(Observation("done" if well else "failed", "ok" if well else "error"))
    reply, notes = Message("assistant", "", tuple(calls)), {"memory": tuple(ids)} if ids else {}
    turn = Turn(0, None, (), (), (), reply, observations=tuple(results), notes=notes)
    share = sum(result.status == "ok" for result in results) / len(results)
    return Trajectory(task, (turn,), ""), Score(share), all(right_ones)


def _best(task: Task, paths: Sequence[Trajectory], place: int) -> int | None:
    """Return the value of a step that came back best over rollouts; None where no value did well more than badly."""
    marks: Counter[int] = Counter()
    for path in paths:
        call, result = path.calls[place]
        marks[int(call.arguments["value"])] += 1 if result.status == "ok" else -1
    ranked = marks.most_common(2)
    clear = ranked and ranked[0][1] > 0 and (len(ranked) < 2 or ranked[0][1] > ranked[1][1])
    return ranked[0][0] if clear else None


def critique(
    task: Task, paths: Sequence[Trajectory], scores: Sequence[Score], entries: Sequence[Entry]
) -> list[Change]:
    """Propose a note for each situation in which one setting came back best."""
    settings = [(words, _best(task, paths, place)) for place, words in enumerate(situations_of(task), 1)]
    return [Change("add", text=f"If {words}: use setting {best}") for words, best in settings if best is not None]


def pooled(texts: Sequence[str]) -> str:
    """Word notes as one: the words that stand in most of them, and the setting that most of them name."""
    parsed = [match for match in (re.fullmatch(r"If ([a-z ]+): use setting (\d)", text) for text in texts) if match]
    words = Counter(word for match in parsed for word in match[1].split())
    settings = Counter(match[2] for match in parsed)
    kept = [word for word, _ in words.most_common(10)]
    return f"If {' '.join(kept)}: use setting {settings.most_common(1)[0][0]}" if parsed else ""


def writer(ask: Ask, sample: int) -> str:
    """Write a document from a rollout, or merge documents: how often workflows came back well, less how often not."""
    text = plain_text(ask.messages[-1])
    counts: Counter[tuple[str, str]] = Counter()
    for kind, workflow, count in re.findall(r"(kind \d): workflow (\d) \(net (-?\d+)\)", text):
        counts[kind, workflow] += int(count)
    if "Rollout:" in text:
        kind, ran = re.search(r"kind \d", text), re.search(r'workflow \{"value": (\d)\} -> \[(\w+)\]', text)
        if kind and ran:
            counts[kind[0], ran[1]] += 1 if ran[2] == "ok" else -1
    return "\n".join(f"{kind}: workflow {workflow} (net {count})" for (kind, workflow), count in counts.items())
