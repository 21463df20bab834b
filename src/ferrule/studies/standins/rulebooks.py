"""Tools with hidden rules, documents that state some of them, and those who try the tools and write the documents.

Every parameter of a tool has one right form, which a validator enforces with an error that says it. A document states
the forms of some parameters, some of them wrongly.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from ferrule.agents.probe import Diverse, Ended, Idea, Trial, probe
from ferrule.agents.refine import settled
from ferrule.core.records import Call, Tool
from ferrule.tools.invoke import invoke
from ferrule.tools.overlay import ToolText

__all__ = ["FORMS", "Explorer", "draw_tool", "rewriting", "right_share", "stated", "try_tool", "written"]

TOPICS = ("date", "size", "place", "price", "colour", "owner")
FORMS = ("dashes", "letters", "digits", "capitals")
PHRASES = (
    "Please look up the {topic} of item {number} for me today in the big list",
    "Could somebody say which {topic} belongs to entry {number} as the records have it",
)
SKEW = 1.5
"""Requests about the k-th topic of a tool are drawn in proportion to ``k ** -SKEW``."""
_STATED = re.compile(r"Use (?P<human>\w+) for the (?P<on>\w+)\.|The (?P<topic>\w+) is written in (?P<form>\w+)\.")


def _refuse(rules: dict[str, str], **given: str) -> str:
    """Take the arguments of a call, or raise the first rule that they break."""
    for topic, form in given.items():
        if form != rules[topic]:
            raise ValueError(f"The {topic} is written in {rules[topic]}.")
    return "done"


def stated(text: str) -> dict[str, str]:
    """Return the forms that a document states, by topic; of two statements the last one counts."""
    return {m["topic"] or m["on"]: m["form"] or m["human"] for m in _STATED.finditer(text)}


def _statement(topic: str, form: str) -> str:
    return f"The {topic} is written in {form}."


def draw_tool(rng: random.Random, *, right: float = 0.43, wrong: float = 0.3) -> tuple[Tool, dict[str, str]]:
    """Draw a tool with a document that states the share ``right`` of its rules, and ``wrong`` ones of others."""
    rules = {topic: rng.choice(FORMS) for topic in TOPICS}
    sentences = ["Finds what is known of an entry in the records."]
    for topic, form in rules.items():
        drawn = rng.random()
        if drawn < right + wrong:
            said = form if drawn < right else rng.choice([other for other in FORMS if other != form])
            sentences.append(f"Use {said} for the {topic}.")
    properties = {topic: {"type": "string"} for topic in TOPICS}
    parameters = {"type": "object", "properties": properties}
    return Tool("records", " ".join(sentences), parameters, run=partial(_refuse, rules)), rules


def right_share(text: str, rules: dict[str, str]) -> float:
    """Return the share of rules that a document states rightly: of all topics, how many a caller gets right by it."""
    said = stated(text)
    return sum(said.get(topic) == form for topic, form in rules.items()) / len(rules)


@dataclass
class Explorer:
    """Thinks of requests about topics, some far more often than others, and fills in what the document states.

    ``asks`` counts how often it was asked.
    """

    rng: random.Random
    asks: int = 0

    def __post_init__(self) -> None:
        """Draw which topics come to mind."""
        self.order = self.rng.sample(TOPICS, len(TOPICS))

    def __call__(self, tool: Tool, trials: Sequence[Trial], complaint: str) -> Idea:
        """Return the next request."""
        self.asks += 1
        (topic,) = self.rng.choices(self.order, [(place + 1) ** -SKEW for place in range(len(self.order))])
        query = self.rng.choice(PHRASES).format(topic=topic, number=self.rng.randrange(100, 1000))
        return Idea(query, {topic: stated(tool.description).get(topic, "nothing")})


def try_tool(tool: Tool, idea: Idea) -> Trial:
    """Call a tool with the arguments of an idea."""
    call = Call(tool.name, idea.arguments or {})
    return Trial(tool.name, idea.query, ((call, invoke(tool, call)),))


def rewriting(
    tool: Tool, rng: random.Random, *, damage: float, last: int = 1
) -> Callable[[Tool, Sequence[ToolText], Sequence[Trial]], ToolText]:
    """Return who writes the document of ``tool`` anew from the results of the ``last`` trials.

    What an error says is stated; every other statement is damaged (another form is stated) with the chance ``damage``.
    """

    def learn(worded: Tool, texts: Sequence[ToolText], trials: Sequence[Trial]) -> ToolText:
        said = stated(worded.description)
        learned: dict[str, str] = {}
        for trial in trials[-last:]:
            for _, observation in trial.calls:
                learned |= stated(observation.text) if observation.status == "error" else {}
        for topic, form in said.items():
            if topic not in learned and rng.random() < damage:
                said[topic] = rng.choice([other for other in FORMS if other != form])
        said |= learned
        begin = tool.description.partition(".")[0]
        sentences = [f"{begin}.", *(_statement(topic, said[topic]) for topic in TOPICS if topic in said)]
        return replace(texts[-1], description=" ".join(sentences))

    return learn


PER_ROUND = 3
"""Asks of a round: who explores, who compares, who writes."""


def written(
    *, seed: int, tools: int, rounds: int = 5, diverse: bool = True, damage: float = 0.0,
    ended: Callable[[Tool], Ended] | None = None, at_once: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Return the share of rules that documents state rightly after ``rounds`` of trials, 0 of them for the first ones.

    ``at_once`` writes once, from all trials. ``asks`` counts requests to a model per tool and ``rounds`` trials.
    """
    rights, asks, taken = [], [], []
    for number in range(tools):
        rng = random.Random(f"{seed}/{number}")  # the same tools for every arm
        tool, rules = draw_tool(rng)
        if not rounds:
            rights.append(right_share(tool.description, rules))
            asks.append(0.0)
            taken.append(0.0)
            continue
        explorer = Explorer(rng)
        learn = rewriting(tool, random.Random(f"{seed}/{number}/damage"), damage=damage, last=rounds if at_once else 1)
        probed = settled(probe(
            tool, explorer, try_tool, learn=None if at_once else learn, ended=ended(tool) if ended else None,
            diverse=Diverse() if diverse else Diverse(limit=2.0, tries=1), rounds=rounds,
        ))  # fmt: skip
        text = learn(tool, probed.texts, probed.trials) if at_once else probed.texts[-1]
        rights.append(right_share(text.description or "", rules))
        trials = len(probed.trials)
        asks.append(explorer.asks + (PER_ROUND - 1) * (1 if at_once else trials))
        taken.append(trials)
    return {"right": fmean(rights), "asks": fmean(asks), "rounds": fmean(taken)}
