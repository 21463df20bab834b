"""JTPRO on the pocket model: which of several look-ups it calls after what was wrong went into documents, or rules."""

from __future__ import annotations

from functools import partial

from ferrule.agents.context_asks import asked_calls
from ferrule.agents.contexts import Context, Optimised, search_contexts
from ferrule.core.flows import Flow, Session
from ferrule.evaluate.probed import played_flow, tools_world
from ferrule.papers.jtpro import scored
from ferrule.policies.named import load
from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.unnamed import draw_lookups, noted_words, requests_for, tools_of
from ferrule.studies.study import Study
from ferrule.tools.documents import word_count

__all__ = ["STUDY", "improved"]


def improved(
    *, seed: int, test: int, examples: int, rounds: int = 6, size: int = 8, rules: bool = True, documents: bool = True
) -> dict[str, float]:
    """Return the scores of the model on ``test`` requests after ``rounds`` reflections on ``size`` calls each.

    Half of the ``examples`` validate. The model is told what it is to do, the rules and the documents.
    """
    lookups, policy, context = draw_lookups(seed), load("pocket"), Context()
    tools, labelled = tools_of(lookups), requests_for(lookups, examples, seed)
    if rounds:

        def flow(session: Session) -> Flow[Optimised]:
            reflect, cut = partial(noted_words, tools, rules, documents), examples // 2
            return (yield from search_contexts(
                tools, asked_calls(tools, max_tokens=32), reflect, labelled, learn=range(cut),
                judge=range(cut, examples), size=size, rounds=rounds, least=None, seed=seed,
            ))  # fmt: skip

        context = played_flow(flow, tools_world(tools), policy, seed=seed, temperature=0.0).context
    scores = scored(tools, context, requests_for(lookups, test, f"{seed}/test"), policy, seed=seed)
    words = word_count(tools, context.overlay) + sum(len(rule.split()) for rule in context.rules.values())
    return {"whole": scores.whole, "tools": scores.tools, "slots": scores.slots, "words": float(words)}


STUDY = Study(
    paper="jtpro",
    part="pocket",
    statement="What was wrong with a model's calls helps it more in the documents of tools than in rules for all.",
    falsifier="With documents edited, less than 0.2 more calls are right than at first, or no more than with rules.",
    grade="B",
    trained="nothing: the shipped model reads what a script writes of its failures",
    models=("pocket",),
    arms={
        "first": partial(improved, rounds=0),
        "rules": partial(improved, documents=False),
        "documents": partial(improved, rules=False),
        "both": improved,
    },
    asks=(
        at_least("right calls, documents minus first", less("whole", "documents", "first"), 0.2),
        at_least("right calls, documents minus rules", less("whole", "documents", "rules"), 0.0),
        at_least("right calls, both minus documents", less("whole", "both", "documents"), 0.0, decides=False),
    ),
    sizes={"small": {"test": 64, "examples": 48}, "tiny": {"test": 8, "examples": 16, "size": 4}},
    seeds=tuple(range(100, 105)),
    setup={"look-ups": 8, "who edits": "a script, as often in every arm"},
)
