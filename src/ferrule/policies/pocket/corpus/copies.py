"""Copying words, codes and numbers exactly, without a tool."""

from __future__ import annotations

from ferrule.policies.pocket.corpus.draw import Draw, listed
from ferrule.policies.pocket.corpus.kit import Exercise

__all__ = ["copy"]

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
Pair = tuple[str, str]


def _unseen(draw: Draw) -> str:
    """Return a word, code or number of three to twelve characters; one in seven repeats a piece of itself."""
    chance = draw.rng.random()
    if chance < 0.25:
        return draw.repeating() if chance < 0.15 else str(draw.number(3, 6))
    make, least, most = (draw.english, 6, 12) if chance < 0.6 else (draw.word, 3, 9)
    if chance > 0.9:
        make = draw.name
    while True:
        word = make()
        if least <= len(word) <= most and " " not in word:
            return word


def _several(draw: Draw, count: int) -> list[str]:
    """Return so many; now and then one of them is another one with its end or beginning twice."""
    items = [_unseen(draw) for _ in range(count)]
    if count > 1 and draw.chance(0.2):
        first, second = draw.rng.sample(range(count), 2)
        items[first], items[second] = draw.doubled()
    return items


def _whole(draw: Draw) -> Pair:
    """Copy all that is given, one word or several."""
    text = draw.one(" ", ", ", " ", "\n").join(_several(draw, draw.rng.choice((1, 1, 2, 3, 4, 5, 6))))
    form = draw.one("Repeat: {}", "Copy this: {}", "Say exactly: {}", 'Write "{}"', "Echo {}", "Say {}", "Copy:\n{}")
    return form.format(text), text


def _nth(draw: Draw) -> Pair:
    """Copy one of several, which begin alike now and then."""
    items = _several(draw, draw.rng.randint(2, 6))
    if draw.chance(0.3):
        items = [items[0], *(draw.near(items[0]) for _ in items[1:])]
        draw.rng.shuffle(items)
    place = draw.rng.randrange(len(items))
    word = "last" if place == len(items) - 1 and draw.chance(0.5) else _ORDINALS[place]
    form = draw.one("Say the {p} of {l}.", "Which is the {p} of these: {l}", "{l}: the {p}?", "The {p} of {l}, please.")
    return form.format(p=word, l=listed(items) if draw.chance(0.5) else ", ".join(items)), items[place]


def _spelled(draw: Draw) -> Pair:
    """Copy one word in another shape."""
    word = draw.word() if draw.chance(0.5) else draw.english()
    form, change = draw.rng.choice(
        (
            ("Write {} in capitals.", str.upper),
            ("{} in upper case?", str.upper),
            ("Spell {} with dashes.", "-".join),
            ("Spell {} letter by letter, with spaces.", " ".join),
            ("Write {} twice.", lambda text: f"{text} {text}"),
            ("Put {} in quotes.", lambda text: f'"{text}"'),
            ("First letter of {}?", lambda text: text[0]),
            ("Last letter of {}?", lambda text: text[-1]),
        )
    )
    return form.format(word), change(word)


def _order(draw: Draw) -> Pair:
    """Copy two or three in another order, or one beside a sign."""
    first, second, third = _several(draw, 3)
    return draw.rng.choice(
        (
            (f"Say {first}, then {second}.", f"{first} {second}"),
            (f"Before {first} say {second}.", f"{second} {first}"),
            (f"Swap {first} and {second}.", f"{second} {first}"),
            (f"In reverse order: {first}, {second}, {third}", f"{third}, {second}, {first}"),
            (f"Join {first} and {second} with a plus.", f"{first}+{second}"),
            (f"Leave out {second}: {first}, {second}, {third}", f"{first}, {third}"),
            (f"Not {first} but {second}: which one?", second),
            (f'{draw.person()} said "{first} {second}" about {third}. Quote it.', f"{first} {second}"),
            (f"What comes after {first} in {first} {second} {third}?", second),
            (f"What stands between {first} and {third} in {first} {second} {third}?", second),
        )
    )


def copy(draw: Draw) -> Exercise:
    """Return an exercise whose answer is copied exactly: words, codes and numbers that were never met."""
    ask, answer = draw.rng.choices((_whole, _nth, _spelled, _order), (5, 4, 2, 3))[0](draw)
    return Exercise("copy", ask, (), answer)
