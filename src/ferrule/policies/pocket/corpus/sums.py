"""Sums done in the head, and arithmetic tools with questions that need them or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus.draw import Draw, in_words
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Parameter, once, shape, tool

__all__ = ["easy", "head", "sum_in_code", "sums_tool"]

_THINGS = (
    "apples cups stamps nails cards keys tickets eggs bricks plates candles marbles stones tiles bottles ribbons pears "
    "buttons letters lemons chairs crates bolts melons ropes stickers tulips spoons pebbles posters"
)

_BARE = {
    "+": (
        "{a} + {b}",
        "{a} plus {b}",
        "How much is {a} + {b}?",
        "How much is {a} plus {b}?",
        "Add {a} and {b}.",
        "Add {a} to {b}.",
        "Give the sum of {a} and {b}.",
        "Sum of {a} and {b}?",
        "Find {a} + {b}.",
        "If you add {a} and {b}, what do you get?",
        "Which number is {a} more than {b}?",
        "{a} and {b} together make how much?",
    ),
    "-": (
        "{a} - {b}",
        "{a} minus {b}",
        "How much is {a} - {b}?",
        "How much is {a} minus {b}?",
        "Subtract {b} from {a}.",
        "Take {b} away from {a}.",
        "Give the difference of {a} and {b}.",
        "Find {a} - {b}.",
        "By how much is {a} greater than {b}?",
        "Which number is {b} less than {a}?",
        "If you take {b} from {a}, what remains?",
    ),
    "*": (
        "{a} * {b}",
        "{a} times {b}",
        "How much is {a} * {b}?",
        "How much is {a} times {b}?",
        "Multiply {a} by {b}.",
        "Multiply {a} and {b}.",
        "Give the product of {a} and {b}.",
        "Product of {a} and {b}?",
        "Find {a} * {b}.",
    ),
}
_STORIES = {
    "+": (
        "{who} counted {a} {things} on Monday and {b} on Tuesday. How many in all?",
        "One shelf has {a} {things}, another has {b}. How many is that together?",
        "{who} owns {a} {things}, {other} owns {b}. How many do they own together?",
        "There were {a} {things} here; then {b} arrived. How many are here?",
        "Total of {a} {things} and {b} {things}?",
        "After {a} {things} came {b} others. Say the total.",
        "{who} needs {a} {things} for {city} and {b} for {town}. How many are needed?",
    ),
    "-": (
        "Of {a} {things}, {b} were sold. How many remain?",
        "{who} had {a} {things} and lost {b}. How many does {who} still have?",
        "{who} owns {a} {things}, {other} only {b}. How many more does {who} own?",
        "From {a} {things} {who} used {b}. How many stay?",
        "{a} {things} left {city}, {b} reached {town}. How many are missing?",
        "{who} wants {a} {things} and has {b}. How many are missing?",
    ),
    "*": (
        "{a} bags hold {b} {things} each. How many {things} is that?",
        "{who} lays {a} rows of {b} {things}. How many is that?",
        "Each of {a} people brings {b} {things}. How many are brought?",
        "One of the {things} costs {a}. What do {b} cost?",
        "{who} packs {a} {things} an hour. How many in {b} hours?",
    ),
}
_SIGNS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


@dataclass(frozen=True)
class _Sum:
    """A sum of two numbers: ``first sign second``."""

    sign: str
    first: int
    second: int

    @property
    def value(self) -> int:
        """The exact result."""
        return _SIGNS[self.sign](self.first, self.second)


def _ask(draw: Draw, task: _Sum, *, stories: float = 0.2, words: float = 0.05) -> str:
    """Return a question for the sum, as a story or bare, the numbers now and then in words."""
    spoken = draw.chance(words) and max(task.first, task.second) < 1000
    a, b = ((in_words if spoken else str)(number) for number in (task.first, task.second))
    if draw.chance(stories) and task.first > 1 and task.second > 1:
        things = draw.one(*_THINGS.split()) if draw.chance(0.7) else draw.syllables(2, 3) + "s"
        who, other = draw.person(), draw.person()
        while other == who:
            other = draw.person()
        names = {"who": who, "other": other, "city": draw.city(), "town": draw.syllables(2, 3).capitalize()}
        text = draw.one(*_STORIES[task.sign]).format(a=a, b=b, things=things, **names)
        return text[0].upper() + text[1:]
    forms = [form for form in _BARE[task.sign] if not spoken or f" {task.sign} " not in form]
    # Half of all are the shortest forms, so that the sum itself is learned before its wordings.
    text = draw.rng.choice(forms[:2] if draw.chance(0.5) and not spoken else forms).format(a=a, b=b)
    if text.endswith((".", "?")):
        text = text[0].upper() + text[1:]
    return text


def _pair(draw: Draw, sign: str, digits: tuple[int, int]) -> _Sum:
    """Return a sum of numbers with so many digits; a difference is never negative."""
    first, second = (draw.number(d, d) or draw.rng.randint(0, 9) for d in digits)
    if sign == "-" and first < second:
        first, second = second, first
    return _Sum(sign, first, second)


def head(draw: Draw, most: int = 3) -> Exercise:
    """Return a sum that needs no tool: at most two digits, few of three, products of one digit.

    Of sums and differences 70 % have a number of two digits and 8 % one of three, which is ``most``.
    """
    if draw.chance(0.18):
        task = _pair(draw, "*", (1, 1))
    else:
        chance = draw.rng.random()
        digits = (
            (2, 2) if chance < 0.55 else (2, 1) if chance < 0.7 else (1, 1) if chance < 0.92 or most < 3 else (3, 2)
        )
        if digits == (3, 2) and draw.chance(0.4):
            digits = (3, 3)
        if digits == (2, 1) and draw.chance(0.3):
            digits = (1, 2)
        task = _pair(draw, draw.one("+", "-"), digits)
    if task.sign == "+" and task.value < 50 and draw.chance(0.06):
        third = draw.rng.randint(1, 9)
        text = draw.one("Add {}, {} and {}.", "{} + {} + {}", "How much are {}, {} and {} together?")
        return Exercise("head", text.format(task.first, task.second, third), (), str(task.value + third))
    return Exercise("head", _ask(draw, task), (), str(task.value))


def easy(exercise: Exercise) -> bool:
    """Tell whether a sum that is called for can be done in the head: two digits, products of one digit.

    A program is a sum where it prints one and does nothing else.
    """
    calls = [arguments for each in exercise.rounds for _, arguments in each.calls]
    given = " ".join(str(value) for arguments in calls for value in arguments.values())
    numbers = re.findall(r"\d+", given)
    small = len(calls) == 1 and len(numbers) == 2 and all(len(number) <= 2 for number in numbers)
    plain = exercise.family == "calc" or re.fullmatch(r"print\(\d+ [-+*] \d+\)", given)
    if not plain or not small:
        return False
    first, second = (int(number) for number in numbers)
    product = max(first, second) < 10 and exercise.answer == str(first * second)
    return product or exercise.answer in (str(first + second), str(first - second))


def _digits(draw: Draw, sign: str) -> tuple[int, int]:
    """Return how many digits the two numbers of a question have, when tools are at hand."""
    if sign == "*":
        return draw.rng.choice(((2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (1, 1)))
    return draw.rng.choice(((2, 2), (2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (4, 4), (2, 1)))


def _call(draw: Draw, task: _Sum, arguments: dict[str, object], used: Tool, show: Callable[[object], str]) -> Exercise:
    """Return the exercise: one call, or in half of the small sums none."""
    ask, answer = _ask(draw, task, words=0.12), str(task.value)
    small = max(task.first, task.second) < (10 if task.sign == "*" else 100)
    if small and draw.chance(0.5):
        return Exercise("calc", ask, (), answer)
    return Exercise("calc", ask, (once(used, arguments, show(task.value)),), answer)


_NAMES = {
    "+": ("add", "plus", "add_numbers", "sum_up", "addition"),
    "-": ("subtract", "minus", "take_away", "difference", "subtraction"),
    "*": ("multiply", "times", "product", "multiply_numbers", "multiplication"),
}
_TEXTS = {
    "+": ("Add two numbers", "Return the sum of two numbers", "Sum of two integers", "Add one number to another"),
    "-": (
        "Subtract the second number from the first",
        "First number minus second number",
        "Take one number from another",
    ),
    "*": ("Multiply two numbers", "Return the product of two numbers", "Product of two integers"),
}
_PAIRS = (("a", "b"), ("x", "y"), ("first", "second"), ("left", "right"), ("n", "m"), ("num1", "num2"), ("p", "q"))


def _operands(kit: Kit) -> tuple[Parameter, Parameter]:
    """Return two parameters for numbers."""
    names = kit.draw.rng.choice(_PAIRS)
    first = kit.parameter([names[0]], "integer", "first number")
    return first, kit.parameter([names[1]], "integer", "second number", taken=[first])


def _single(kit: Kit, sign: str) -> None:
    """Add a tool for one operation."""
    draw = kit.draw
    parameters = _operands(kit)
    used = kit.add(tool(kit.title(*_NAMES[sign]), draw.one(*_TEXTS[sign]), parameters))
    show = shape(draw, draw.one("result", "value", "out"))

    def make() -> Exercise:
        task = _pair(draw, sign, _digits(draw, sign))
        return _call(draw, task, {parameters[0].name: task.first, parameters[1].name: task.second}, used, show)

    kit.can(["calc"], make)


def _switch(kit: Kit) -> None:
    """Add a tool that takes the operation as an argument."""
    draw = kit.draw
    signs = draw.rng.choice((("add", "subtract", "multiply"), ("plus", "minus", "times"), ("+", "-", "*")))
    operation = kit.parameter(["operation", "op", "kind", "action", "mode"], "string", "what to do", choices=signs)
    names = draw.rng.choice(_PAIRS)
    first = kit.parameter([names[0]], "integer", taken=[operation])
    second = kit.parameter([names[1]], "integer", taken=[operation, first])
    ordered = [operation, first, second] if draw.chance(0.5) else [first, second, operation]
    text = draw.one("Apply an operation to two numbers", "Do arithmetic with two numbers", "Join two numbers by a sign")
    used = kit.add(tool(kit.title("arithmetic", "apply", "operate", "do_math", "combine"), text, ordered))
    show = shape(draw, draw.one("result", "value", "out"))

    def make() -> Exercise:
        sign = draw.one("+", "-", "*")
        task = _pair(draw, sign, _digits(draw, sign))
        values: dict[str, object] = {
            operation.name: signs["+-*".index(sign)],
            first.name: task.first,
            second.name: task.second,
        }
        return _call(draw, task, values, used, show)

    kit.can(["calc"], make)


def _long(draw: Draw) -> tuple[str, str, int]:
    """Return question, expression and value with three numbers."""
    a, b, c = draw.number(2, 3), draw.number(1, 2) + 2, draw.number(1, 3)
    things, who = draw.one(*_THINGS.split()), draw.person()
    forms: Sequence[tuple[str, str, int]] = (
        (f"{a} times {b} plus {c}", f"{a} * {b} + {c}", a * b + c),
        (f"How much is {a} * {b} - {c}?", f"{a} * {b} - {c}", a * b - c),
        (f"Add {a} and {c}, then multiply by {b}.", f"({a} + {c}) * {b}", (a + c) * b),
        (f"Multiply {a} by {b} and add {c}.", f"{a} * {b} + {c}", a * b + c),
        (f"Multiply {a} by {b}, then subtract {c}.", f"{a} * {b} - {c}", a * b - c),
        (f"Evaluate ({a} + {c}) * {b}.", f"({a} + {c}) * {b}", (a + c) * b),
        (f"{a} + {b} + {c}", f"{a} + {b} + {c}", a + b + c),
        (f"{b} crates hold {a} {things} each; {c} lie beside them. Total?", f"{b} * {a} + {c}", b * a + c),
        (f"{who} stacks {b} rows of {a} {things} and adds {c}. How many is that?", f"{b} * {a} + {c}", b * a + c),
        (
            f"In {b} weeks {who} sorts {a} old and {c} new {things} a week. All?",
            f"{b} * ({a} + {c})",
            b * (a + c),
        ),
    )
    return draw.rng.choice(forms)


def _expression(kit: Kit) -> None:
    """Add a tool that evaluates an expression."""
    draw = kit.draw
    term = kit.parameter(["expression", "expr", "formula", "term", "input"], "string", "such as 2 * (3 + 4)")
    text = draw.one(
        "Evaluate an arithmetic expression",
        "Value of a formula",
        "Do sums with + - * and brackets",
        "Calculate a term",
        "Works out a formula and returns the number",
        "Result of an expression of numbers, signs and brackets",
        "Use this for any arithmetic",
        "Arithmetic on numbers, no variables",
    )
    if draw.chance(0.4):
        a, b, c = (draw.number(1, 2) for _ in range(3))
        shown = draw.one(
            f"{a} * ({b} - {c})", f"({a} + {b}) / {c}", f"{a} + {b} * {c}", f"{a}*{b}", f"({a} - {b}) * {c}"
        )
        text += draw.one(
            f", e.g. {shown}", f", like {shown}", f" ({shown})", f" such as {shown}", f"; example: {shown}"
        )
    name = kit.title("evaluate", "calc", "do_math", "eval_formula", "formula_value", "compute", "work_out")
    used = kit.add(tool(name, text, [term]))
    show = shape(draw, draw.one("result", "value", "out"))

    def make() -> Exercise:
        if draw.chance(0.4):
            ask, expression, value = _long(draw)
            return Exercise("calc", ask, (once(used, {term.name: expression}, show(value)),), str(value))
        sign = draw.one("+", "-", "*")
        task = _pair(draw, sign, _digits(draw, sign))
        return _call(draw, task, {term.name: f"{task.first} {sign} {task.second}"}, used, show)

    kit.can(["calc"], make)


def sum_in_code(draw: Draw) -> tuple[str, str, int]:
    """Return a question, the expression that a program would print, and its value."""
    if draw.chance(0.4):
        return _long(draw)
    sign = draw.one("+", "-", "*")
    task = _pair(draw, sign, _digits(draw, sign))
    return _ask(draw, task), f"{task.first} {sign} {task.second}", task.value


def sums_tool(kit: Kit) -> None:
    """Add arithmetic tools: one for each of some operations, one with the operation as an argument, or expressions.

    A small sum is answered without a call in half of the exercises, so that the need for a tool is graded.
    """
    chance = kit.draw.rng.random()
    if chance < 0.35:
        for sign in kit.draw.rng.sample("+-*", kit.draw.rng.randint(1, 3)):
            _single(kit, sign)
    elif chance < 0.5:
        _switch(kit)
    else:
        _expression(kit)
