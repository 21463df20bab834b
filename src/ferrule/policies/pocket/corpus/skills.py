"""Small talk, requests that no tool serves, and instructions in the system text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ferrule.chat.describe import plan
from ferrule.policies.pocket.corpus.draw import Draw, in_words, synonyms
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Round
from ferrule.policies.pocket.corpus.sums import easy

__all__ = ["Instruction", "chat", "instruction", "refuse"]


@dataclass(frozen=True)
class Instruction:
    """A sentence of the system text and what it makes of an exercise."""

    text: str
    change: Callable[[Exercise], Exercise]


_TALK: Sequence[tuple[tuple[str, ...], str]] = (
    (("Hello", "Hello!", "Hello there.", "Hello, can we start?"), "Hello."),
    (("Hi", "Hi!", "Hi there", "Hey"), "Hi."),
    (("Good morning.", "Good morning!", "Morning!"), "Good morning."),
    (("Good evening.", "Good evening!", "Evening!"), "Good evening."),
    (("Thanks!", "Thank you.", "Thanks a lot.", "Many thanks.", "Thank you for the help."), "You are welcome."),
    (("Bye!", "Goodbye.", "See you.", "That was all, bye."), "Goodbye."),
    (("Are you there?", "Are you ready?", "Is anybody there?", "Do you hear me?", "Still there?"), "Yes."),
    (("How are you?", "How are you today?", "All well?"), "I am well."),
    (("Okay.", "Fine.", "All right.", "Good.", "Got it.", "That is right."), "Good."),
    (("Wait a moment.", "One moment, please.", "Hold on.", "Wait, please."), "I will wait."),
    (("Sorry!", "My mistake.", "Sorry about that.", "I was wrong."), "No problem."),
    (("Well done!", "Great work.", "Very good!", "You did that well."), "Thank you."),
    (("Can you help me?", "I need help.", "Could you help?", "Will you help me?"), "Yes, ask me."),
    (("Do nothing yet.", "Nothing to do now.", "No need to do anything."), "I do nothing."),
)


def chat(draw: Draw) -> Exercise:
    """Return small talk, which takes no call although tools are there."""
    if draw.chance(0.5):
        asks, answer = draw.rng.choice(_TALK)
        return Exercise("notool", draw.one(*asks), (), answer)
    name, word, noun = draw.person(), draw.word(), draw.noun()
    ask, answer = draw.rng.choice(
        (
            (f"My name is {name}.", f"Hello {name}."),
            (f"I am {name}.", f"Hello {name}."),
            (f"{name} here.", f"Hello {name}."),
            (f"Hello, {name} speaking.", f"Hello {name}."),
            (f"My name is {name}. Who am I?", name),
            (f"They call me {name}. How am I called?", name),
            (f"I call my {noun} {word}. What do I call it?", word),
            (f"My {noun} is named {word}. How is my {noun} named?", word),
            (f"The password is {word}. Say the password.", word),
            (f"Remember {word}. Which word was it?", word),
            (f"Remember the word {word}.", f"I remember {word}."),
            (f"Keep in mind that {name} likes the {noun}.", "Noted."),
            (f"Please say {word}.", word),
            (f"{name} says hello.", f"Hello {name}."),
            (f"I prefer {word} to {noun}. Which do I prefer?", word),
            (f"From now on you are {word}. Who are you?", word),
            (f"I do not need the {noun} now, thanks.", "You are welcome."),
            (f"I like the {noun}.", "Good."),
        )
    )
    return Exercise("notool", ask, (), answer)


_ACTS: Sequence[tuple[tuple[str, ...], str]] = (
    (("translate", "language"), "Translate {w} into {x}."),
    (("paint", "draw", "picture"), "Paint a picture of {w} for {p}."),
    (("sing", "music"), "Sing a tune about {w}."),
    (("buy", "purchase", "order", "shop"), "Buy a {w} for {p}."),
    (("rent", "hire", "lease", "book", "reserve"), "Rent a {w} in {c}."),
    (("repair", "fix", "mend"), "Repair the {w} of {p}."),
    (("weather", "rain", "forecast", "temperature"), "Will it rain in {c} tomorrow?"),
    (("news", "report"), "Show me the news from {c}."),
    (("clean", "wash"), "Wash the {w} in {c}."),
    (("photo", "camera", "picture"), "Take a photo of the {w}."),
    (("call", "ring", "phone", "dial"), "Ring up {p} about the {w}."),
    (("cook", "bake", "recipe"), "Bake a {w} for {p}."),
    (("sell", "offer", "trade"), "Sell my {w} to {p}."),
    (("invite", "guest"), "Invite {p} to {c}."),
    (("delete", "remove", "erase", "drop"), "Erase {w} for ever."),
    (("route", "way", "travel", "distance", "direction"), "Show the way from {c} to {x}."),
)
_GLUE = (
    "without|some|somebody|current|look|find|read|return|value|given|with|from|into|that|this|number|name|what|back|tell"
    "|show|list|have"
)


def _text(kit: Kit) -> str:
    """Return all names and descriptions of the kit's tools in small letters."""
    return " ".join(
        f"{each.name} {each.description} {' '.join(each.parameters['properties'])}" for each in kit.tools
    ).lower()


def _new(kit: Kit, make: Callable[[], str], text: str) -> str:
    """Return a word that neither occurs in the tools nor has a synonym there."""
    while True:
        word = make()
        if not any(other in text for other in (word.lower(), *synonyms().get(word.lower(), ()))):
            return word


def _close(kit: Kit, text: str) -> str:
    """Return a question for a field or thing beside those of the tools: one word is theirs, the others are not."""
    draw, told = kit.draw, " ".join(each.description for each in kit.tools)
    pairs = re.findall(r"(?:the|its) (\w+) of (?:an?|the|one|each) (?:given )?(\w+)", told)
    if pairs:
        field, noun = draw.rng.choice(pairs)
        if draw.chance(0.5):
            return _question(kit, _new(kit, draw.field, text), noun)
        return _question(kit, field, _new(kit, draw.noun, text))
    nouns = re.findall(r"\b(?:an?|the|each|one) (?:given )?([a-z]{4,})", told)
    words = [word for word in nouns or re.findall(r"\b[a-z]{4,}", told) if not re.fullmatch(_GLUE, word)]
    noun = draw.rng.choice(words) if words else _new(kit, draw.noun, text)
    return _question(kit, _new(kit, draw.field, text), noun)


def _question(kit: Kit, field: str, noun: str) -> str:
    """Return a question for a field of a thing."""
    draw = kit.draw
    form = draw.one(
        "Give me the {f} of the {n} {k}.",
        "Which {f} has the {n} {k}?",
        "Tell me the {f} of {n} {k}.",
        "{n} {k}: {f}?",
        "Look up the {f} of the {n} {k}.",
        *(() if re.search("change|update|set_|set |edit", _text(kit)) else ("Change the {f} of the {n} {k} to {v}.",)),
    )
    key = draw.name() if draw.chance(0.6) else str(draw.number(1, 4))
    return form.format(f=field, n=noun, k=key, v=draw.value())


def refuse(kit: Kit) -> Exercise:
    """Return a request that no tool of the kit serves; half of them lie close to one."""
    draw, text = kit.draw, _text(kit)
    anything = re.search(r"\b(documents?|pages?|articles?|notes|code|program|script|python)\b", text)
    if kit.tools and not anything and draw.chance(0.5):
        return Exercise("refuse", _close(kit, text), (), "No tool for that.")
    acts = [form for words, form in _ACTS if not any(word in text for word in words)]
    if acts and draw.chance(0.5):
        words = {"w": _new(kit, draw.noun, text), "x": draw.syllables(2, 3).capitalize()}
        ask = draw.rng.choice(acts).format(p=draw.person(), c=draw.city(), **words)
    elif draw.chance(0.5):
        ask = _question(kit, _new(kit, draw.field, text), _new(kit, draw.noun, text))
    else:
        words = {letter: _new(kit, draw.content, text) for letter in "abcd"}
        ask = draw.one("{a} the {b} {c}.", "Please {a} {b} {c} {d}.", "{a} {b} for {p}.", "Can you {a} the {b}?")
        ask = ask.format(p=draw.person(), **words)
        ask = ask[0].upper() + ask[1:]
    return Exercise("refuse", ask, (), "No tool for that.")


def _affix(draw: Draw) -> Instruction:
    """Words and signs around the answer, or capitals."""
    word, name = draw.content(), draw.person()
    left, right, kind = draw.rng.choice((("[", "]", "square"), ("(", ")", "round"), ("<", ">", "angle")))
    shapes: dict[str, tuple[str, ...]] = {
        f"{word} {{}}": (
            f"Begin every answer with {word}.",
            f"Your answers start with {word}.",
            f"Say {word} before each answer.",
        ),
        f"{{}} {word}": (
            f"End every answer with {word}.",
            f"Your answers end with {word}.",
            f"Say {word} after each answer.",
        ),
        f"{{}} -- {name}": (
            f"Sign answers with -- {name}.",
            f"After each answer write -- {name}.",
            f"Your name is {name}; sign so: -- {name}",
        ),
        f"{left}{{}}{right}": (
            f"Put answers in {kind} brackets.",
            f"Write each answer in {kind} brackets.",
            f"Answers stand in {kind} brackets: {left} {right}",
        ),
    }
    if draw.chance(0.08):
        text = draw.one("Write answers in capitals.", "Answer in upper case.", "Capitals only in answers.")
        return Instruction(text, lambda exercise: replace(exercise, answer=exercise.answer.upper()))
    form = draw.one(*shapes)
    return Instruction(draw.one(*shapes[form]), partial(_shaped, form))


def _shaped(form: str, exercise: Exercise) -> Exercise:
    """Return the exercise with its answer put into a form."""
    return replace(exercise, answer=form.format(exercise.answer))


def _spoken(draw: Draw) -> Instruction:
    """Numbers of the answer as words; a code that holds digits stays."""
    most, text = draw.rng.choice(
        (
            (10**9, "Answer in words, not digits."),
            (1000, "Write numbers below 1000 as words."),
            (10**9, "Say numbers in words."),
        )
    )

    def said(number: re.Match[str]) -> str:
        whole, _, rest = number[0].partition(".")
        if int(whole) >= most or re.match(r"0\d", whole):
            return number[0]
        return in_words(int(whole)) + "".join(f" point {in_words(int(digit))}" for digit in rest)

    def change(exercise: Exercise) -> Exercise:
        return replace(exercise, answer=re.sub(r"(?<![\w.-])\d+(\.\d)?(?![\w-]|\.\d)", said, exercise.answer))

    return Instruction(text, change)


def _repeated(draw: Draw) -> Instruction:
    """The question before the answer."""
    text = draw.one("Repeat the question first.", "Say the question, then the answer.", "Start with the question.")
    return Instruction(text, lambda exercise: replace(exercise, answer=f"{exercise.ask} {exercise.answer}"))


def _forbidden(draw: Draw) -> Instruction:
    """No calls at all: a sentence stands in for what needs one, and sums are done in the head."""
    rule = draw.one("Do not call tools", "Never use a tool", "Tools are forbidden", "Make no calls")
    sentence = draw.one(
        "No tool allowed.", f"{draw.word().capitalize()}.", f"Ask {draw.person()}.", "That needs a tool."
    )
    if sentence == "No tool allowed." and draw.chance(0.6):
        text = f"{rule}."
    else:
        text = rule + draw.one('; say "{}" instead.', '. If one is needed, say "{}"', '; reply "{}"').format(sentence)

    def change(exercise: Exercise) -> Exercise:
        if exercise.rounds and easy(exercise):
            return replace(exercise, rounds=())
        needs = bool(exercise.rounds) or exercise.family == "refuse"
        return replace(exercise, rounds=(), answer=sentence) if needs else exercise

    return Instruction(text, change)


def _single(exercise: Exercise) -> Exercise:
    """Return the exercise with its first call only, and what that call alone can answer."""
    rounds = tuple(each for each in exercise.rounds if each.learned)
    if sum(len(each.calls) for each in rounds) <= 1:
        return replace(exercise, rounds=rounds)
    first = Round(rounds[0].calls[:1], rounds[0].results[:1], plan=rounds[0].plan)
    later = [arguments for each in rounds for _, arguments in each.calls][1:]
    taken = [str(value) for arguments in later for value in arguments.values() if str(value) not in exercise.ask]
    chain = any(value in first.results[0] for value in taken)
    parts = re.split(r", | and |; |\n", exercise.answer)
    shown = [part for part in parts if re.search(rf"(?<!\w){re.escape(part)}(?!\w)", first.results[0])]
    answer = shown[0] if len(shown) == 1 and len(parts) > 1 and not chain else "One call is not enough."
    return replace(exercise, rounds=(first,), answer=answer)


def _once(draw: Draw) -> Instruction:
    """At most one call."""
    text = draw.one("Make at most one call.", "At most one call.", "You may call once.", "Only one call is allowed.")
    return Instruction(text, _single)


def _planned(exercise: Exercise, form: str) -> Exercise:
    """Return the exercise with the plan of every round put into a form."""
    rounds = tuple(
        replace(each, plan=form.format(plan=" ".join(plan(used) for used, _ in each.calls))) for each in exercise.rounds
    )
    return replace(exercise, rounds=rounds)


def _thinking(draw: Draw) -> Instruction:
    """A plan in think tags, or none."""
    if draw.chance(0.75):
        text = draw.one("No plan, call at once.", "Call without a plan.", "Write the call only.", "Do not plan.")
        return Instruction(text, lambda exercise: _planned(exercise, ""))
    text = draw.one("Think first.", "Think before each call.", "Put your plan in think tags.", "Think, then call.")
    return Instruction(text, lambda exercise: _planned(exercise, "<think>{plan}</think>"))


def instruction(draw: Draw, kit: Kit) -> Instruction:
    """Return an instruction for the system text; those on calls are rare where the kit has no tools."""
    makers = (_affix, _spoken, _repeated, _forbidden, _once, _thinking)
    weights = (5, 2, 0.4, 3, 1.5, 9) if kit.tools else (5, 2, 0.4, 0, 0, 0)
    return draw.rng.choices(makers, weights)[0](draw)
