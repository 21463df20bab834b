"""Who proposes without a model: draws from the pool of rewrites of the bank, and an expert who names ideas.

Source: "LLM Interactive Optimization of Open Source Python Libraries" (paper 35).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence

from ferrule.core.flows import Ask
from ferrule.core.records import plain_text
from ferrule.worlds.pyopt.bank import family_of
from ferrule.worlds.pyopt.functions import Rewrite

__all__ = ["claim_of", "expert_idea", "proposer", "rewrites_of", "wording"]

_BLOCK = re.compile(r"```python\n(.*?)\n?```", re.DOTALL)
_IDEA = re.compile(r"Try this idea: (.+?)\.\s*\Z", re.DOTALL)
_CLAIM = re.compile(r"about ([0-9.]+) times as fast")


def wording(rewrite: Rewrite) -> str:
    """Return a rewrite as a reply: what it claims, and the program."""
    return f"{rewrite.family}: about {rewrite.claim:g} times as fast.\n\n```python\n{rewrite.source.strip()}\n```"


def claim_of(reply: str) -> float:
    """Return how many times as fast a reply says that its program is; 1 where it says nothing."""
    match = _CLAIM.search(reply)
    return float(match[1]) if match else 1.0


def proposer(seed: int = 0) -> Callable[[Ask, int], str]:
    """Return a script for ``Scripted``: it draws from the rewrites of the function in the question.

    It repeats nothing that stands in the conversation as long as there is something else. An idea that it is told
    (``expert_idea``) it takes; after a test that failed it stays with the family of ideas three times as likely as it
    would, and after a program that was not accepted it takes another family where it can. Raises ``ValueError`` for a
    function that is not of the bank.
    """

    def propose(ask: Ask, sample: int) -> str:
        texts = [(message.role, plain_text(message)) for message in ask.messages]
        name = _named(next(text for role, text in texts if role == "user"))
        written = [text for role, text in texts if role == "assistant"]
        told = texts[-1][1] if written else ""
        pool = rewrites_of(name)
        rng = random.Random(f"{seed}/{ask.seed}/{sample}/{len(texts)}/{name}")
        fresh = [one for one in pool if not any(wording(one) == text for text in written)] or pool
        last = next((one for one in pool if written and wording(one) == written[-1]), None)
        weights = [_weight(one, last, told) for one in fresh]
        return wording(rng.choices(fresh, weights if any(weights) else None)[0])

    return propose


def rewrites_of(name: str) -> list[Rewrite]:
    """Return the rewrites of a function of the bank by its name."""
    family = family_of(name)
    return [Rewrite(r["family"], r["source"].replace("NAME", name), r["claim"]) for r in family.rewrites]


def _named(question: str) -> str:
    """Return the name of the function that a question is about."""
    blocks = _BLOCK.findall(question)
    match = re.search(r"^def (\w+)\(", blocks[0], re.MULTILINE) if blocks else None
    if match is None:
        raise ValueError("the scripted proposer reads its function from a ```python block, and there is none")
    return match[1]


def _weight(one: Rewrite, last: Rewrite | None, told: str) -> float:
    """Return how likely a rewrite is drawn, after what was said of the last one."""
    if idea := _IDEA.search(told):
        return float(one.family == idea[1])
    same = last is not None and one.family == last.family
    if "tests fail" in told:
        return 3.0 if same else 1.0
    return 0.0 if "Not accepted" in told and same else 1.0


def expert_idea(name: str, programs: Iterable[str]) -> str:
    """Name the family of ideas that an expert would try next on a function of the bank, given the programs so far.

    The best family comes first, then the others as they stand in the pool; one whose rewrites were all tried is passed
    over.
    """
    tried = {program.strip() for program in programs}
    best = family_of(name).best
    pool = sorted(rewrites_of(name), key=lambda one: one.family != best)
    left: Sequence[Rewrite] = [one for one in pool if one.source.strip() not in tried]
    return f"Try this idea: {left[0].family}." if left else ""
