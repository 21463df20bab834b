"""One function per class of problems, in plain Python, that solves all of its problems.

Each is complete in itself (imports included), so that its source can be run anywhere: ``inspect.getsource`` returns it.
"""

from __future__ import annotations

__all__ = ["chinese_remainder", "dyck", "logical_deduction", "scheduling", "shuffled_objects", "word_sorting"]


def word_sorting(words: list[str]) -> str:
    """Return the words in the order of the alphabet, with spaces between them."""
    return " ".join(sorted(words))


def dyck(text: str) -> str:
    """Return the brackets that close those that are open in a text."""
    pairs = {"(": ")", "[": "]", "{": "}", "<": ">"}
    waiting: list[str] = []
    for mark in text:
        if mark in pairs:
            waiting.append(pairs[mark])
        elif mark in pairs.values():
            waiting.pop()
    return "".join(reversed(waiting))


def logical_deduction(things: list[str], clues: list[list[object]], place: int) -> str:
    """Return the thing at a place (1 is the first) in the only order that fits all clues.

    A clue is ``["before", a, b]`` (a stands before b), or ``["at", a, n]`` (a stands at place n; -1 is the last).
    """
    from itertools import permutations

    def fits(order: tuple[str, ...], clue: list[object]) -> bool:
        kind, first, second = clue
        if kind == "before":
            return order.index(str(first)) < order.index(str(second))
        number = int(str(second))
        return order[number - 1 if number > 0 else number] == first

    (order,) = (order for order in permutations(things) if all(fits(order, clue) for clue in clues))
    return order[place - 1]


def shuffled_objects(holds: dict[str, str], swaps: list[list[str]], who: str) -> str:
    """Return what somebody holds after pairs of people have swapped what they hold, in order."""
    now = dict(holds)
    for first, second in swaps:
        now[first], now[second] = now[second], now[first]
    return now[who]


def chinese_remainder(moduli: list[int], remainders: list[int], most: int) -> int:
    """Return the number, at most ``most``, that leaves each remainder when it is divided by its modulus."""
    return next(
        n for n in range(most, -1, -1) if all(n % m == r for m, r in zip(moduli, remainders, strict=True))
    )  # fmt: skip


def scheduling(free: list[list[str]], hours: float) -> str:
    """Return the earliest time at which all people are free for so many hours, ``"11:00 - 12:00"``.

    ``free`` holds the free times of each person as ``"08:00 - 09:30"``; without a common time the text says so.
    """

    def minutes(clock: str) -> int:
        hour, minute = clock.split(":")
        return 60 * int(hour) + int(minute)

    def clock(moment: int) -> str:
        return f"{moment // 60:02d}:{moment % 60:02d}"

    length = round(60 * hours)
    windows = [[tuple(minutes(end) for end in span.split(" - ")) for span in person] for person in free]
    for start in range(0, 24 * 60 - length + 1, 30):
        if all(any(a <= start and start + length <= b for a, b in person) for person in windows):
            return f"{clock(start)} - {clock(start + length)}"
    return "No time slot works."
