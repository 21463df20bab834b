"""Short Python programs for questions in words, and a tool that runs them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from ferrule.policies.pocket.corpus.draw import Draw, listed
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, once, tool
from ferrule.policies.pocket.corpus.sums import sum_in_code

__all__ = ["printed", "program", "program_tool"]

Template = Callable[[Draw], tuple[str, str]]
"""Draws a question and the program that answers it."""


def printed(code: str) -> str:
    """Run a program of the corpus and return what it prints, lines joined by newlines."""
    lines: list[str] = []

    def show(*values: Any) -> None:
        lines.append(" ".join(str(value) for value in values))

    exec(code, {"print": show})  # the program was made here from drawn numbers and words
    return "\n".join(lines)


def _numbers(draw: Draw, least: int = 3, most: int = 6) -> list[int]:
    return [draw.number(1, 3) for _ in range(draw.rng.randint(least, most))]


def _words(draw: Draw, least: int = 3, most: int = 5) -> list[str]:
    return [draw.content() for _ in range(draw.rng.randint(least, most))]


def _total(draw: Draw) -> tuple[str, str]:
    n = _numbers(draw)
    ask = draw.one("Add up {}.", "Total of {}?", "How much are {} together?", "Sum these numbers: {}.")
    return ask.format(listed(n)), f"numbers = {n}\nprint(sum(numbers))"


def _extreme(draw: Draw) -> tuple[str, str]:
    n = _numbers(draw)
    which, ask = draw.rng.choice((("max", "largest"), ("min", "smallest"), ("max", "highest"), ("min", "lowest")))
    return f"Which is the {ask} of {listed(n)}?", f"numbers = {n}\nprint({which}(numbers))"


def _above(draw: Draw) -> tuple[str, str]:
    n = _numbers(draw, 4, 7)
    bound, sign = draw.rng.choice(n), draw.one("<", ">")
    side = draw.one("above", "greater than") if sign == ">" else draw.one("below", "less than")
    ask = f"How many of {listed(n)} are {side} {bound}?"
    return ask, f"count = 0\nfor n in {n}:\n    if n {sign} {bound}:\n        count += 1\nprint(count)"


def _product(draw: Draw) -> tuple[str, str]:
    n = [draw.rng.randint(2, 12) for _ in range(draw.rng.randint(3, 5))]
    ask = draw.one("Multiply {} together.", "Product of {}?", "Give the product of {}.").format(listed(n))
    return ask, f"result = 1\nfor n in {n}:\n    result *= n\nprint(result)"


def _repeated(draw: Draw) -> tuple[str, str]:
    a, b, k = draw.number(1, 3), draw.number(1, 2) + 2, draw.rng.randint(3, 20)
    sign, verb = draw.rng.choice((("+", "add"), ("-", "subtract")))
    ask = f"Start with {a} and {verb} {b} {k} times. Where do you end?"
    return ask, f"x = {a}\nfor i in range({k}):\n    x {sign}= {b}\nprint(x)"


def _reverse(draw: Draw) -> tuple[str, str]:
    word = draw.content()
    ask = draw.one("Write {} backwards.", "Reverse the word {}.", "Spell {} from the end.").format(word)
    return ask, f"word = '{word}'\nprint(word[::-1])"


def _letters(draw: Draw) -> tuple[str, str]:
    word = draw.content() + draw.syllables(1, 2)
    letter = draw.rng.choice(word)
    ask = draw.one("How often does {c} occur in {w}?", "Count the letter {c} in {w}.", "How many times is {c} in {w}?")
    return ask.format(c=letter, w=word), f"word = '{word}'\nprint(word.count('{letter}'))"


def _rule(draw: Draw) -> tuple[str, str]:
    a, b, k, factor = draw.rng.randint(1, 30), draw.rng.randint(1, 20), draw.rng.randint(4, 9), draw.rng.randint(2, 3)
    times = {2: "twice", 3: "three times"}[factor]
    ask = f"A sequence starts at {a}; each next term is {times} the last plus {b}. Give term {k}."
    return ask, f"x = {a}\nfor i in range({k - 1}):\n    x = {factor} * x + {b}\nprint(x)"


def _growth(draw: Draw) -> tuple[str, str]:
    a, p, k = draw.number(3, 4), draw.rng.randint(2, 25), draw.rng.randint(2, 9)
    noun, span = draw.noun(), draw.one("year", "month", "week", "day")
    ask = f"A {noun} of {a} grows by {p} percent each {span}, rounded down. How much after {k} {span}s?"
    return ask, f"x = {a}\nfor i in range({k}):\n    x += x * {p} // 100\nprint(x)"


def _squares(draw: Draw) -> tuple[str, str]:
    k, (power, name) = draw.rng.randint(3, 9), draw.rng.choice(((2, "squares"), (3, "cubes")))
    ask = draw.one("List the {n} of 1 to {k}.", "Show the {n} of the numbers from 1 to {k}.", "Give the first {k} {n}.")
    return ask.format(n=name, k=k), f"print([n ** {power} for n in range(1, {k + 1})])"


def _longest(draw: Draw) -> tuple[str, str]:
    words = _words(draw)
    kind, text = draw.rng.choice((("max", "longest"), ("min", "shortest")))
    lengths = sorted((len(word) for word in words), reverse=kind == "max")
    if lengths[0] == lengths[1]:
        return _longest(draw)
    return f"Which is the {text} word of {listed(words)}?", f"words = {words}\nprint({kind}(words, key=len))"


def _parity(draw: Draw) -> tuple[str, str]:
    n = _numbers(draw, 4, 6)
    rest = draw.rng.choice(n) % 2
    kind = "odd" if rest else "even"
    ask = draw.one("Keep only the {} ones of {}.", "List what is {} in {}.", "List the {} numbers of {}.")
    return ask.format(kind, listed(n)), f"numbers = {n}\nprint([n for n in numbers if n % 2 == {rest}])"


def _gcd(draw: Draw) -> tuple[str, str]:
    factor = draw.rng.randint(2, 30)
    a, b = (factor * draw.rng.randint(2, 30) for _ in range(2))
    if draw.chance(0.7):
        ask = draw.one("Greatest common divisor of {} and {}?", "Find the gcd of {} and {}.").format(a, b)
        return ask, f"import math\nprint(math.gcd({a}, {b}))"
    return f"Least common multiple of {a} and {b}?", f"import math\nprint(math.lcm({a}, {b}))"


def _lookup(draw: Draw) -> tuple[str, str]:
    table = {draw.content(): draw.number(1, 3) for _ in range(draw.rng.randint(3, 5))}
    first, second = draw.rng.sample(list(table), 2)
    rows = listed([f"{key} {value}" for key, value in table.items()])
    ask = f"Points: {rows}. How much have {first} and {second} together?"
    return ask, f"points = {table}\nprint(points['{first}'] + points['{second}'])"


def _bill(draw: Draw) -> tuple[str, str]:
    rows = [(draw.rng.randint(2, 20), draw.number(1, 2) + 1) for _ in range(draw.rng.randint(2, 4))]
    parts = listed([f"{count} {draw.syllables(2, 3)}s at {each}" for count, each in rows])
    ask = draw.one("Total of {}?", "What do {} cost together?", "Bill: {}. Give the total.").format(parts)
    return ask, f"total = 0\nfor count, each in {rows}:\n    total += count * each\nprint(total)"


def _sorted(draw: Draw) -> tuple[str, str]:
    if draw.chance(0.5):
        words = _words(draw)
        ask = draw.one("Sort by alphabet: {}.", "Put {} in alphabetical order.").format(listed(words))
        return ask, f"words = {words}\nprint(', '.join(sorted(words)))"
    n = _numbers(draw, 3, 5)
    if draw.chance(0.5):
        return f"Sort {listed(n)} from low to high.", f"numbers = {n}\nprint(sorted(numbers))"
    return f"Sort {listed(n)} from high to low.", f"numbers = {n}\nprint(sorted(numbers, reverse=True))"


def _range(draw: Draw) -> tuple[str, str]:
    a = draw.rng.randint(1, 60)
    b = a + draw.rng.randint(4, 80)
    if draw.chance(0.5):
        return f"Add all whole numbers from {a} to {b}.", f"print(sum(range({a}, {b + 1})))"
    k = draw.rng.randint(3, 9)
    ask = f"How many numbers from {a} to {b} are divisible by {k}?"
    return ask, f"count = 0\nfor n in range({a}, {b + 1}):\n    if n % {k} == 0:\n        count += 1\nprint(count)"


def _digits(draw: Draw) -> tuple[str, str]:
    n = draw.number(3, 7)
    ask = draw.one("Sum of the digits of {}?", "Add the digits of {}.", "Cross sum of {}?").format(n)
    return ask, f"print(sum(int(d) for d in str({n})))"


def _division(draw: Draw) -> tuple[str, str]:
    a, b = draw.number(3, 5), draw.rng.randint(3, 40)
    if draw.chance(0.5):
        return f"What remains when {a} is divided by {b}?", f"print({a} % {b})"
    return f"How many times does {b} go into {a}?", f"print({a} // {b})"


def _until(draw: Draw) -> tuple[str, str]:
    a, factor = draw.rng.randint(1, 20), draw.rng.randint(2, 4)
    bound = a * factor ** draw.rng.randint(3, 7) + draw.rng.randint(1, 9)
    verb = {2: "double", 3: "triple", 4: "quadruple"}[factor]
    ask = f"How often must one {verb} {a} to pass {bound}?"
    return ask, f"x = {a}\nsteps = 0\nwhile x <= {bound}:\n    x *= {factor}\n    steps += 1\nprint(steps)"


def _power(draw: Draw) -> tuple[str, str]:
    if draw.chance(0.4):
        n = draw.rng.randint(4, 12)
        return f"Factorial of {n}?", f"import math\nprint(math.factorial({n}))"
    a, b = draw.rng.randint(2, 15), draw.rng.randint(3, 6)
    ask = draw.one("Raise {} to the power {}.", "How much is {} to the power of {}?").format(a, b)
    return ask, f"print({a} ** {b})"


def _text(draw: Draw) -> tuple[str, str]:
    word, kind = draw.content(), draw.rng.randrange(4)
    if kind == 0:
        return f"How many letters has {word}?", f"print(len('{word}'))"
    if kind == 1:
        return f"Write {word} in capitals.", f"print('{word}'.upper())"
    if kind == 2:
        count = draw.rng.randint(2, 5)
        return f"Write {word} {count} times without spaces.", f"print('{word}' * {count})"
    letter, other = draw.rng.choice(word), draw.rng.choice("aeioustrnm")
    return f"Replace each {letter} in {word} by {other}.", f"print('{word}'.replace('{letter}', '{other}'))"


def _spread(draw: Draw) -> tuple[str, str]:
    n = [draw.number(1, 3) for _ in range(draw.rng.randint(3, 6))]
    if draw.chance(0.5):
        ask = f"How far apart are the largest and smallest of {listed(n)}?"
        return ask, f"numbers = {n}\nprint(max(numbers) - min(numbers))"
    n[-1] += -sum(n) % len(n)
    return f"Mean of {listed(n)}?", f"numbers = {n}\nprint(sum(numbers) // len(numbers))"


def _second(draw: Draw) -> tuple[str, str]:
    n = draw.rng.sample(range(2, 400), draw.rng.randint(3, 6))
    which, text = draw.rng.choice(((-2, "second largest"), (1, "second smallest")))
    return f"Which is the {text} of {listed(n)}?", f"numbers = sorted({n})\nprint(numbers[{which}])"


def _length(draw: Draw) -> tuple[str, str]:
    words = _words(draw, 4, 5)
    bound = draw.rng.choice([len(word) for word in words])
    ask = f"How many of {listed(words)} have {bound} or more letters?"
    return ask, f"words = {words}\nprint(sum(len(w) >= {bound} for w in words))"


def _primes(draw: Draw) -> tuple[str, str]:
    n = draw.rng.randint(12, 400)
    if draw.chance(0.5):
        ask = draw.one("List the divisors of {}.", "Which numbers divide {}?").format(n)
        return ask, f"print([d for d in range(1, {n + 1}) if {n} % d == 0])"
    if math.gcd(n, 6) != 1:
        return _primes(draw)
    return f"Is {n} a prime?", f"prime = all({n} % d for d in range(2, {n}))\nprint('yes' if prime else 'no')"


_TEMPLATES: Sequence[Template] = (
    *(_total, _extreme, _above, _product, _repeated, _reverse, _letters, _rule, _growth, _squares, _longest, _parity),
    *(_gcd, _lookup, _bill, _sorted, _range, _digits, _division, _until, _power, _text, _spread, _second, _length),
    _primes,
)


def program(draw: Draw) -> tuple[str, str, str]:
    """Return a question in words, a program that answers it, and what the program prints."""
    ask, code = draw.rng.choice(_TEMPLATES)(draw)
    return ask, code, printed(code)


def _display(draw: Draw) -> Callable[[str], str]:
    """Return how the tool shows what was printed."""
    chance, key = draw.rng.random(), draw.one("output", "stdout", "printed")
    if chance < 0.65:
        return str
    if chance < 0.8:
        return lambda text: json.dumps({key: text})
    if chance < 0.9:
        return lambda text: json.dumps({"stdout": text + "\n", "exit_code": 0})
    return lambda text: f"{key}: {text}"


def program_tool(kit: Kit, *, sums: bool = False) -> None:
    """Add a tool that runs a Python program, and questions that a short program answers; with ``sums`` plain ones too.

    A few exercises show a program that prints nothing before the right one; only the right one is learned.
    """
    draw = kit.draw
    source = kit.parameter(["code", "program", "source", "script"], "string", "Python source text")
    name = kit.title("run_code", "execute", "interpreter", "run_program", "exec_code", "run_script", "sandbox")
    text = draw.one(
        "Run a Python program and return what it prints",
        "Execute Python code; the printed text comes back",
        "Run a script written in Python",
        "Python interpreter; print what you want to see",
        "Execute a short program",
        "Runs code (standard library only) and gives back stdout",
        "Evaluate Python statements; use print() to see values",
        "Sandboxed interpreter for Python 3, no network",
        "Takes Python source, returns its output",
        "Write code here whenever something has to be counted, sorted or computed",
    )
    used, show = kit.add(tool(name, text, [source])), _display(draw)

    def make() -> Exercise:
        ask, code, output = program(draw)
        if draw.chance(0.15):
            ask = draw.one("Use code: ", "Write a program: ", "With a program: ", "Run this for me: ") + ask
        rounds = [once(used, {source.name: code}, show(output))]
        *lines, last = code.split("\n")
        if draw.chance(0.06) and last.startswith("print("):
            silent = "\n".join([*lines, last[6:-1]])
            rounds.insert(0, once(used, {source.name: silent}, show(""), learned=False))
        return Exercise("program", ask, tuple(rounds), output)

    def make_sum() -> Exercise:
        ask, expression, value = sum_in_code(draw)
        first = once(used, {source.name: f"print({expression})"}, show(str(value)))
        return Exercise("program", ask, (first,), str(value))

    kit.can(["program"], make)
    if sums:
        kit.can(["program"], make_sum)
