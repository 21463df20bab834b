"""Sums, reading, copying, programs, small talk, refusals and instructions of the corpus are exact."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from ferrule.chat.describe import plan
from ferrule.policies.pocket.corpus.contexts import context
from ferrule.policies.pocket.corpus.copies import copy
from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.errors import spoilt
from ferrule.policies.pocket.corpus.kit import Exercise, Kit, Parameter, Round, once, tool
from ferrule.policies.pocket.corpus.programs import printed, program, program_tool
from ferrule.policies.pocket.corpus.skills import chat, instruction, refuse
from ferrule.policies.pocket.corpus.sums import easy, head, sums_tool

READ = tool("vodu", "Look up the depth of a castle.", [Parameter("id", {"type": "integer"})])
FIND = tool("kelo", "Find the id of a castle", [Parameter("name", {"type": "string"})])
SHIPPED = (
    r"^What is [\d(][^?]*\?",  # the arithmetic world
    r"^(Compute|Work out) [\d(]",
    r"= \?$",
    r"has \S+ \S+ and (gets|gives)",
    r"How many \S+ (now|are left)\?",
    r"^What is the \S+ of",  # facts and apis
)


def _draw(seed: object, split: str = "train") -> Draw:
    return Draw(random.Random(f"skills/{seed}"), split)


def _drawn(builder: object, count: int) -> list[tuple[Kit, Exercise]]:
    made = []
    for seed in range(count):
        kit = Kit(_draw(seed))
        builder(kit)  # type: ignore[operator]
        made.append((kit, kit.draw.rng.choice(kit.makers).make()))
    return made


def test_sums_in_the_head_are_exact_and_mostly_of_two_digits() -> None:
    exercises = [head(_draw(seed)) for seed in range(1500)]
    signs = {"+": "+", "plus": "+", "-": "-", "minus": "-", "*": "*", "times": "*"}
    checked = 0
    for exercise in exercises:
        assert exercise.rounds == ()
        assert re.fullmatch(r"\d+", exercise.answer)
        bare = re.fullmatch(r"(\d+) (\S+) (\d+)", exercise.ask)
        if bare:
            first, sign, second = bare.groups()
            assert int(exercise.answer) == eval(f"{first} {signs[sign]} {second}")
            checked += 1
    assert checked > 100
    digits = [max(map(len, numbers)) for e in exercises if (numbers := re.findall(r"\d+", e.ask))]
    assert 0.5 < sum(count == 2 for count in digits) / len(digits) < 0.75
    assert 0.03 < sum(count == 3 for count in digits) / len(digits) < 0.12


def test_half_of_the_small_sums_take_no_call_and_every_call_shows_the_answer() -> None:
    exercises = [exercise for _, exercise in _drawn(sums_tool, 1500)]
    for exercise in exercises:
        for each in exercise.rounds:
            assert exercise.answer in each.results[0]
            ((used, given),) = each.calls
            assert set(used.parameters["required"]) == set(given)
            texts = [
                value
                for value in given.values()
                if isinstance(value, str) and len(value) > 3 and value[0] in "(0123456789"
            ]
            assert all(str(eval(text)) == exercise.answer for text in texts)
    called = [easy(exercise) for exercise in exercises if exercise.rounds]
    alone = [exercise for exercise in exercises if not exercise.rounds]
    assert any(called)
    assert 0.3 < len(alone) / (sum(called) + len(alone)) < 0.7


def test_easy_takes_sums_of_two_digits_and_products_of_one() -> None:
    def calc(expression: str) -> Exercise:
        value = str(eval(expression))
        return Exercise("calc", "?", (once(FIND, {"name": expression}, value),), value)

    assert easy(calc("47 + 85"))
    assert easy(calc("85 - 47"))
    assert easy(calc("6 * 7"))
    assert not easy(calc("47 * 85"))
    assert not easy(calc("147 + 85"))
    assert not easy(replace(calc("47 + 85"), family="lookup"))
    printed_sum = Exercise("program", "47 + 85", (once(FIND, {"name": "print(47 + 85)"}, "132"),), "132")
    assert easy(printed_sum)
    divisor = once(FIND, {"name": "import math\nprint(math.gcd(12, 8))"}, "4")
    assert not easy(Exercise("program", "Greatest common divisor of 12 and 8?", (divisor,), "4"))


def test_operands_stand_in_the_order_of_the_question() -> None:
    checked = 0
    for _, exercise in _drawn(sums_tool, 1500):
        given = " ".join(str(value) for each in exercise.rounds for _, call in each.calls for value in call.values())
        asked, called = re.findall(r"\d+", exercise.ask), re.findall(r"\d+", given)
        commutes = exercise.answer in (str(eval("+".join(called))), str(eval("*".join(called)))) if called else False
        if commutes and len(asked) == len(called):
            assert asked == called, exercise.ask
            checked += 1
    assert checked > 300


def test_sums_beside_arithmetic_tools_keep_to_two_digits() -> None:
    assert not [seed for seed in range(600) if re.search(r"\d{3}", head(_draw(seed), 2).ask)]


def test_programs_print_their_answers() -> None:
    assert printed("x = 2\nfor i in range(3):\n    x = 2 * x + 1\nprint(x, 'end')") == "23 end"  # 5, 11, 23
    for _, exercise in _drawn(program_tool, 400):
        code = str(next(iter(exercise.rounds[-1].calls[0][1].values())))
        assert printed(code) == exercise.answer != ""
        assert code.count("\n") < 6
        assert all(
            not each.learned and printed(str(next(iter(each.calls[0][1].values())))) == ""
            for each in exercise.rounds[:-1]
        )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"Write (\w+) backwards\.", lambda word: word[::-1]),
        (r"How many letters has (\w+)\?", lambda word: str(len(word))),
        (r"Sum of the digits of (\d+)\?", lambda number: str(sum(map(int, number)))),
        (r"Factorial of (4|5)\?", lambda number: {"4": "24", "5": "120"}[number]),
        (r"Add all whole numbers from (\d+ to \d+)\.", lambda ends: _gauss(*map(int, ends.split(" to ")))),
        (r"Total of ([\d, and]+)\?", lambda text: str(sum(map(int, re.findall(r"\d+", text))))),
    ],
)
def test_programs_answer_the_question(pattern: str, expected: object) -> None:
    drawn = [program(_draw(seed)) for seed in range(3000)]
    matches = [(match[1], output) for ask, _, output in drawn if (match := re.fullmatch(pattern, ask))]
    assert matches
    assert all(expected(given) == output for given, output in matches)  # type: ignore[operator]


def _gauss(first: int, last: int) -> str:
    return str((first + last) * (last - first + 1) // 2)


def test_single_words_are_copied_and_words_that_begin_alike_are_told_apart() -> None:
    copied = [copy(_draw(seed)) for seed in range(600)]
    single = [e for e in copied if re.fullmatch(r"(Repeat:|Copy this:|Say exactly:|Echo|Say) \S+", e.ask)]
    lists = [match[2].split(", ") for e in copied if (match := re.fullmatch(r"(.*): (.+, .+)", e.ask))]
    alike = [words for words in lists if len(words) > 2 and len({word[:2] for word in words}) == 1]
    assert len(single) > 20
    assert len(alike) > 3


@pytest.mark.parametrize("split", ["train", "test"])
def test_reading_and_copying_need_no_tool_and_only_what_is_given(split: str) -> None:
    for seed in range(600):
        read, copied = context(_draw(seed, split)), copy(_draw(seed, split))
        assert read.rounds == copied.rounds == ()
        assert read.answer in read.ask or re.fullmatch(r"\d|yes|no|\d, \d", read.answer), read
        letters = re.sub(r"\W", "", copied.answer).lower()
        assert letters
        assert set(letters) <= set(copied.ask.lower())


def test_grids_are_read_right() -> None:
    checked = 0
    for seed in range(3000):
        exercise = context(_draw(seed))
        place = re.fullmatch(r"((?:\S{2,5}\n)+)Row (\d), column (\d)\?", exercise.ask)
        if place:
            assert place[1].split()[int(place[2]) - 1][int(place[3]) - 1] == exercise.answer
            checked += 1
    assert checked > 3


def test_no_question_form_of_a_shipped_world_occurs() -> None:
    asks = [make(_draw(seed)).ask for make in (head, context, copy, chat) for seed in range(600)]
    asks += [exercise.ask for builder in (sums_tool, program_tool) for _, exercise in _drawn(builder, 600)]
    asks += [refuse(kit).ask for kit, _ in _drawn(sums_tool, 300)]
    for ask in asks:
        assert not [pattern for pattern in SHIPPED if re.search(pattern, ask, re.MULTILINE)], ask
    names = {
        each.name for builder in (sums_tool, program_tool) for kit, _ in _drawn(builder, 300) for each in kit.tools
    }
    assert not names & {"python", "calculator", "search", "answer"}


def test_what_is_refused_is_not_on_offer() -> None:
    for seed in range(300):
        kit = Kit(_draw(seed))
        for column, noun in ((kit.draw.field(), kit.draw.noun()), (kit.draw.field(), kit.draw.noun())):
            kit.add(tool(kit.title("get"), f"Look up the {column} of a {noun}"))
        exercise = refuse(kit)
        assert (exercise.answer, exercise.rounds) == ("No tool for that.", ())
        for each in kit.tools:
            column, noun = re.findall(r"the (\w+) of a (\w+)", each.description)[0]
            words = set(re.findall(r"\w+", exercise.ask.lower()))
            assert not {column, noun} <= words
    assert refuse(Kit(_draw("empty"))).rounds == ()


def test_a_call_that_is_shown_only_is_not_repeated_as_one_to_learn() -> None:
    wrong = once(READ, {"id": "Gufol"}, "not an integer", learned=False)
    shown = Exercise("repair", "Depth of Gufol?", (wrong, once(READ, {"id": 83}, "217")), "217")
    assert not [seed for seed in range(200) if spoilt(Kit(_draw(seed), [READ, FIND]), shown)]


def test_a_tool_corrects_the_spelling_of_names_only() -> None:
    def corrected(value: str) -> bool:
        exercise = Exercise("lookup", f"Id of '{value}'?", (once(FIND, {"name": value}, "83"),), "83")
        repairs = [spoilt(Kit(_draw(seed), [READ, FIND]), exercise) for seed in range(200)]
        calls = [given for each in repairs if each for turn in each.rounds if turn.learned for _, given in turn.calls]
        return any(call["name"] != value for call in calls if "name" in call)

    assert all(map(corrected, ("Gufol", "Gufol Bari", "AB-12", "gufol")))
    assert not any(map(corrected, ("backed workers", "workers", "2031-04-05", "3 + 4")))


def _told(pattern: str) -> tuple[re.Match[str], object]:
    for seed in range(4000):
        kit = Kit(_draw(seed), [READ, FIND])
        made = instruction(kit.draw, kit)
        match = re.fullmatch(pattern, made.text)
        if match:
            return match, made.change
    raise AssertionError(pattern)


def _changed(pattern: str, exercise: Exercise) -> tuple[re.Match[str], Exercise]:
    match, change = _told(pattern)
    return match, change(exercise)  # type: ignore[operator]


LOOK = Exercise("lookup", "Depth of castle 4?", (once(READ, {"id": 4}, '{"depth": 217}'),), "217")
CHAIN = Exercise(
    "chain", "Depth of Gufol?", (once(FIND, {"name": "Gufol"}, "83"), once(READ, {"id": 83}, "217")), "217"
)
PAIR = Exercise("pair", "Depth of 4? And of 9?", (once(READ, {"id": 4}, "217"), once(READ, {"id": 9}, "30")), "217, 30")
SUM = Exercise("calc", "31 + 45", (once(FIND, {"name": "31 + 45"}, "76"),), "76")


def test_instructions_on_the_answer() -> None:
    match, changed = _changed(r"Begin every answer with (\S+)\.", LOOK)
    assert changed.answer == f"{match[1]} 217"
    match, changed = _changed(r"Say (\S+) after each answer\.", LOOK)
    assert changed.answer == f"217 {match[1]}"
    match, changed = _changed(r"Sign answers with (-- \S+)\.", LOOK)
    assert changed.answer == f"217 {match[1]}"
    assert _changed(r"Put answers in square brackets\.", LOOK)[1].answer == "[217]"
    assert _changed(r"Answer in words, not digits\.", LOOK)[1].answer == "two hundred and seventeen"
    for given, words in (
        ("1, 6", "one, six"),
        ("8508", "eight thousand five hundred and eight"),
        ("12.5", "twelve point five"),
        ("AB-12", "AB-12"),
        ("2031-04-05", "2031-04-05"),
    ):
        assert _changed(r"Answer in words, not digits\.", replace(LOOK, answer=given))[1].answer == words
    changed = _changed(r"Write numbers below 1000 as words\.", replace(LOOK, answer="1000, 63"))[1]
    assert changed.answer == "1000, sixty-three"
    assert _changed(r"Repeat the question first\.", LOOK)[1].answer == "Depth of castle 4? 217"
    assert changed.rounds == LOOK.rounds


def test_instructions_on_calls() -> None:
    match, changed = _changed(r'Do not call tools; say "(.+)" instead\.', LOOK)
    assert (changed.rounds, changed.answer) == ((), match[1])
    assert _changed(r"Never use a tool\.", LOOK)[1].answer == "No tool allowed."
    changed = _changed(r"Never use a tool\.", SUM)[1]
    assert (changed.rounds, changed.answer) == ((), "76")
    talk = Exercise("notool", "Hello", (), "Hello.")
    assert _changed(r"Never use a tool\.", talk)[1] == talk


def test_at_most_one_call() -> None:
    def single(exercise: Exercise) -> Exercise:
        return _changed(r"Make at most one call\.", exercise)[1]

    assert single(LOOK) == LOOK
    assert (single(CHAIN).rounds, single(CHAIN).answer) == (CHAIN.rounds[:1], "One call is not enough.")
    assert (single(PAIR).rounds, single(PAIR).answer) == (PAIR.rounds[:1], "217")
    both = Round(((READ, {"id": 4}), (READ, {"id": 9})), ("217", "30"))
    assert single(replace(PAIR, rounds=(both,))) == single(PAIR)
    wrong = once(READ, {"id": "x"}, "not an integer", learned=False)
    assert single(replace(LOOK, rounds=(wrong, *LOOK.rounds))) == LOOK


def test_plans_are_left_out_or_put_into_tags() -> None:
    assert [each.plan for each in _changed(r"No plan, call at once\.", CHAIN)[1].rounds] == ["", ""]
    changed = _changed(r"Think first\.", CHAIN)[1]
    assert [each.plan for each in changed.rounds] == [f"<think>{plan(used)}</think>" for used in (FIND, READ)]
    assert changed.answer == "217"
