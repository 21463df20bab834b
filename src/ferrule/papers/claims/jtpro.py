"""JTPRO: rules, documents, or both, edited from as many reflections on calls among look-alike tools."""

from __future__ import annotations

from functools import partial

from ferrule.agents.contexts import Context, search_contexts
from ferrule.agents.refine import settled
from ferrule.rewards.slots import slot_scores
from ferrule.studies.conditions import at_least, less, over, within
from ferrule.studies.standins.lookalikes import ALIKE, GROUPS, Clerk, draw_lookalikes, scripted_edits
from ferrule.studies.study import Study
from ferrule.tools.documents import lifted, word_count

__all__ = ["STUDY", "searched"]


def searched(
    *, seed: int, examples: int, test: int, rounds: int = 8, size: int = 16, rules: bool = True, documents: bool = True,
    lift: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Return the scores on ``test`` further requests after ``rounds`` reflections on ``size`` failures each.

    Half of the ``examples`` validate. ``lift`` moves what documents share into rules afterwards. ``words`` counts those
    of all documents and rules.
    """
    drawn = draw_lookalikes(seed)
    clerk, labelled = Clerk(drawn.tools), drawn.requests(examples, seed)
    context = Context()
    if rounds:
        reflect = partial(scripted_edits, drawn.tools, rules, documents)
        cut = examples // 2
        context = settled(search_contexts(
            drawn.tools, clerk, reflect, labelled, learn=range(cut), judge=range(cut, examples), size=size,
            rounds=rounds, least=None, seed=seed,
        )).context  # fmt: skip
    if lift:
        overlay, kept = lifted(drawn.tools, context.overlay, context.rules)
        context = Context(kept, overlay)
    requests = drawn.requests(test, f"{seed}/test")
    scores = slot_scores(clerk(context, requests), [request.gold for request in requests])
    words = word_count(drawn.tools, context.overlay) + sum(len(rule.split()) for rule in context.rules.values())
    return {"whole": scores.whole, "tools": scores.tools, "slots": scores.slots, "words": float(words)}


WITHIN = ("rules, 8 x 16", "documents, 8 x 16")
BUDGETS = {"8 x 16": (8, 16), "15 x 16": (15, 16), "25 x 24": (25, 24)}
PARTS = {"rules": {"documents": False}, "documents": {"rules": False}, "both": {}}
"""What may be edited, by name."""
STUDY = Study(
    paper="jtpro",
    statement="With few reflections, editing rules and documents together beats editing either alone.",
    falsifier="At 8 reflections on 16 calls both are behind documents or rules, or rules alone choose tools better.",
    grade="C",
    trained="nothing: a scripted agent and reflector, and tools and requests that the seed draws",
    arms={
        "first": partial(searched, rounds=0),
        **{
            f"{part}, {name}": partial(searched, rounds=rounds, size=size, **changes)
            for name, (rounds, size) in BUDGETS.items()
            for part, changes in PARTS.items()
            if part != "rules" or rounds == 8  # one rule is all that there is to write
        },
        "documents lifted, 25 x 24": partial(searched, rounds=25, size=24, rules=False, lift=True),
    },
    asks=(
        at_least("right calls at 8 x 16, both minus documents", less("whole", "both, 8 x 16", WITHIN[1]), 0.0),
        at_least("right calls at 8 x 16, both minus rules", less("whole", "both, 8 x 16", WITHIN[0]), 0.0),
        at_least("right tools at 8 x 16, first minus rules", less("tools", "first", WITHIN[0]), -0.05),
        at_least(
            "relative fall of words by lifting",
            over("words", "documents lifted, 25 x 24", "documents, 25 x 24", factor=-1, plus=1),
            0.05,
        ),
        within("right calls, lifted minus not", less("whole", "documents lifted, 25 x 24", "documents, 25 x 24"), 0.01),
        at_least(
            "right calls at 25 x 24, both minus documents",
            less("whole", "both, 25 x 24", "documents, 25 x 24"),
            0.0,
            decides=False,
        ),
    ),
    sizes={"small": {"examples": 800, "test": 500}, "tiny": {"examples": 100, "test": 60}},
    setup={"groups": GROUPS, "look-alikes": ALIKE, "reflections": "as many in every arm"},
)
