"""Look-alike tools: groups of four whose documents say the same, requests that tell them apart, and who reads failures.

An agent chooses by the rarity of the words that a request shares with a document, and writes a date or an amount in the
form that a rule or a document states.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferrule.agents.contexts import Case, Context, Edits, LabelledCall
from ferrule.core.records import Call, Tool
from ferrule.tools.documents import about, texts_of
from ferrule.tools.overlay import Key

__all__ = ["ALIKE", "GROUPS", "Clerk", "Lookalikes", "draw_lookalikes", "scripted_edits"]

GROUPS, ALIKE = 12, 4
DATES, UNIT = "write a date as YYYY-MM-DD such as 2024-05-05", "write an amount with kg"
DATED, WEIGHED = 0.7, 0.4
"""The share of requests with a date, and of tools whose amounts have a unit."""
_PLAIN = {"type": "string", "description": ""}


@dataclass(frozen=True)
class Lookalikes:
    """Tools, the words that requests for each may have, words that mean nothing, and the tools that want a unit."""

    tools: tuple[Tool, ...]
    groups: tuple[tuple[str, ...], ...]
    cues: tuple[tuple[str, ...], ...]
    noise: tuple[str, ...]
    weighed: frozenset[int]

    def requests(self, count: int, seed: object) -> list[LabelledCall]:
        """Draw requests: words of the group, two cues of the tool, and noise, with an amount and mostly a date."""
        rng = random.Random(f"requests/{seed}")
        return [self._request(rng) for _ in range(count)]

    def _request(self, rng: random.Random) -> LabelledCall:
        place = rng.randrange(len(self.tools))
        words = [
            *rng.sample(self.groups[place // ALIKE], 2), *rng.sample(self.cues[place], 2), *rng.sample(self.noise, 3)
        ]  # fmt: skip
        rng.shuffle(words)
        amount, day = rng.randrange(2, 90), rng.randrange(1, 10)
        arguments = {"amount": f"{amount} kg" if place in self.weighed else f"{amount}"}
        query = f"{' '.join(words)} : {amount}"
        if rng.random() < DATED:
            query += f" on May {day}"
            arguments["date"] = f"2024-05-0{day}"
        return LabelledCall(query, Call(self.tools[place].name, arguments))


def draw_lookalikes(seed: int, groups: int = GROUPS) -> Lookalikes:
    """Draw tools in groups of look-alikes, whose documents have the words of their group alone."""
    rng = random.Random(f"lookalikes/{seed}")
    letters = "bdfgklmnprstv"
    words = [a + v + b + w for a in letters for v in "aeiou" for b in letters for w in "aeiou"]
    drawn = iter(rng.sample(words, groups * (3 + 5 * ALIKE) + 40))

    def some(count: int) -> tuple[str, ...]:
        return tuple(next(drawn) for _ in range(count))

    of_groups = tuple(some(3) for _ in range(groups))
    cues = tuple(some(5) for _ in range(groups * ALIKE))
    parameters = {"type": "object", "properties": {"date": _PLAIN, "amount": _PLAIN}}
    tools = tuple(
        Tool(f"tool_{place}", " ".join(of_groups[place // ALIKE]), parameters, run=dict)
        for place in range(groups * ALIKE)
    )
    weighed = frozenset(rng.sample(range(len(tools)), round(WEIGHED * len(tools))))
    return Lookalikes(tools, of_groups, cues, some(40), weighed)


@dataclass(frozen=True)
class Clerk:
    """The agent: takes the tool whose description shares the rarest words with a request, and fills its slots."""

    tools: Sequence[Tool]

    def __call__(self, context: Context, items: Sequence[LabelledCall]) -> list[Call]:
        """Return the call that is made for each request."""
        texts = texts_of(self.tools, context.overlay)
        words = {tool.name: set(texts[tool.name, "description"].split()) for tool in self.tools}
        counts = Counter(word for said in words.values() for word in said)
        rarity = {word: math.log(len(words) / count) for word, count in counts.items()}
        return [self._call(item, words, rarity, texts, context.rules) for item in items]

    def _call(
        self, item: LabelledCall, words: Mapping[str, set[str]], rarity: Mapping[str, float], texts: Mapping[Key, str],
        rules: Mapping[str, str],
    ) -> Call:  # fmt: skip
        asked, _, slots = item.query.partition(" : ")
        said = asked.split()
        scores = {name: sum(rarity[word] for word in said if word in known) for name, known in words.items()}
        tie = random.Random(item.query)
        name = max(scores, key=lambda name: (scores[name], tie.random()))
        amount, _, day = slots.partition(" on May ")
        told = {slot: _told(texts[name, about(slot)], rules) for slot in ("date", "amount")}
        arguments = {"amount": f"{amount} kg" if UNIT in told["amount"] else amount}
        if day:
            arguments["date"] = f"2024-05-0{day}" if DATES.lower() in told["date"].lower() else f"May {day}"
        return Call(name, arguments)


def _told(text: str, rules: Mapping[str, str]) -> str:
    """Return what a slot's description says, the rule that it points to, and what holds for all tools."""
    pointed = [rules[name] for name in re.findall(r"see (R\d+)", text) if name in rules]
    return "\n".join((text, *pointed, *(rule for name, rule in rules.items() if not re.fullmatch(r"R\d+", name))))


def scripted_edits(
    tools: Sequence[Tool], rules: bool, documents: bool, context: Context, cases: Sequence[Case]
) -> Edits:
    """Read failures: words of a request that went elsewhere are added to its tool, forms are stated where they failed.

    The form of dates becomes a rule at two failures where ``rules`` may change, else it goes into the tools concerned.
    """
    texts, current = dict[Key, str](), texts_of(tools, context.overlay)
    dates = [case for case in cases if any(signal.slot == "date" for signal in case.signals)]
    for case in cases if documents else ():
        name, kinds = case.example.gold.name, {signal.kind for signal in case.signals}
        if "wrong_tool" in kinds:
            said = texts.get((name, "description"), current[name, "description"]).split()
            asked = case.example.query.partition(" : ")[0].split()
            texts[name, "description"] = " ".join(dict.fromkeys([*said, *asked]))
        if any(signal.slot == "amount" for signal in case.signals):
            texts[name, about("amount")] = UNIT
    if rules and len(dates) >= 2:
        return Edits({"dates": DATES}, texts)
    if documents and not rules:
        texts |= {(case.example.gold.name, about("date")): DATES for case in dates}
    return Edits({}, texts)
