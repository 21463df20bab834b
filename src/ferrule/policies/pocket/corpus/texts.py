"""A tool that finds passages of text, and questions that a sentence of what it finds answers."""

from __future__ import annotations

from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, once, tool

__all__ = ["text_tool"]

_SAYS = (
    "Search texts for words, returns passages",
    "Find passages about something",
    "Look something up in the library",
    "Find sentences in documents by words",
    "Read about a subject in an archive",
)
_ASKS = (
    "What {c} does {n} have?",
    "{n} has which {c}?",
    "Tell me the {c} of {n}.",
    "I want to know the {c} of {n}.",
    "Find out which {c} {n} has.",
    "Who or what is {n}'s {c}?",
)
_TELLS = ("The {c} of {n} is {v}.", "{n} has the {c} {v}.", "{v} is the {c} of {n}.", "For {n} the {c} is {v}.")


def _passages(draw: Draw, name: str, column: str, value: object) -> str:
    """Return the sentence that answers among others of the same kind."""
    facts = [(name, column, value)]
    for _ in range(draw.rng.randint(0, 3)):
        other = (name, draw.field()) if draw.chance(0.4) else (draw.name(), column)
        facts.append((*other, draw.value()))
    draw.rng.shuffle(facts)
    told = draw.one("", "title") == "title"
    sentences = [draw.one(*_TELLS).format(n=n, c=c, v=v) for n, c, v in facts]
    if told:
        sentences = [f"{n}: {sentence}" for (n, _, _), sentence in zip(facts, sentences, strict=True)]
    return draw.one("\n", "\n\n", " ").join(sentences)


def text_tool(kit: Kit) -> None:
    """Add a tool that finds passages; what is asked for is not known by any other tool."""
    draw = kit.draw
    query = kit.parameter(("query", "words", "text", "q", "about"), "string", "what to look for")
    name = kit.title("find_text", "look_in_texts", "library", "read_about", "find_passages", "archive", "lookup")
    finder = kit.add(tool(name, draw.one(*_SAYS) + draw.one("", "."), (query,)))

    def make() -> Exercise:
        subject, column, value = draw.name(), draw.field(), draw.value()
        ask = draw.one(*_ASKS).format(n=subject, c=column)
        words = {query.name: f"{column} of {subject}"}
        first = once(finder, words, _passages(draw, subject, column, value))
        if draw.chance(0.06):
            empty = once(finder, words, draw.one("nothing found", "no passages", "[]", ""))
            return Exercise("texts", ask, (empty,), "Not found.")
        return Exercise("texts", ask, (first,), str(value))

    kit.can(("texts",), make, joins=False)
