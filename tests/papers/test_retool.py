"""ReTool: the tag grammar and its mask, rewards, checked rewriting, recipes."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import find, retool
from ferrule.papers.retool import experiment
from ferrule.rewards.outcome import outcome

TEXT = (
    "Let me compute.\n<code>\n```python\nprint(6*7)\n```\n</code>\n<interpreter>\n42\n</interpreter>\n\n"
    "So it is 42.\n<answer>\n\\boxed{42}\n</answer>"
)
TASK = Task("t", "How much is 6 times 7?", answer="42")


def run(code: str) -> Observation:
    """A stand-in interpreter for two scripts."""
    if code == "print(6*7)":
        return Observation("42\n")
    return Observation(f"Traceback (most recent call last):\n  ...\nNameError: name '{code}' is not defined", "error")


def test_split_into_messages() -> None:
    first, result, last = retool.to_messages(TEXT)
    assert (first.role, first.content, first.calls[0].arguments) == (
        "assistant",
        "Let me compute.",
        {"code": "print(6*7)"},
    )
    assert (result.role, result.content, result.call_id) == ("tool", "42", first.calls[0].id)
    assert (last.role, last.content) == ("assistant", "So it is 42.\n\n\\boxed{42}")


def test_joining_is_the_inverse() -> None:
    assert retool.to_text(retool.to_messages(TEXT)) == TEXT


def test_only_the_interpreter_block_is_masked() -> None:
    """The text has 131 characters; the block from its opening to its closing tag has 31 of them."""
    mask = retool.loss_mask(TEXT)
    assert (len(TEXT), sum(mask)) == (131, 100)
    assert "".join(c for c, keep in zip(TEXT, mask, strict=True) if not keep) == "<interpreter>\n42\n</interpreter>"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<code>\n```python\nx\n```\n</code>\nand", "has no result"),
        ("<interpreter>\n1\n</interpreter>", "has no code block"),
        ("<code>\nx\n</code>", "stray tag"),
        (TEXT + TEXT, "follows the answer"),
        (TEXT + " more", "at the end"),
        (TEXT.replace("</code>\n", "</code>\nhm "), "between"),
    ],
)
def test_broken_texts_are_refused_with_the_reason(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        retool.to_messages(text)


words = st.text(alphabet="abc XYZ.,=+", min_size=1, max_size=20).map(str.strip).filter(bool)


@settings(deadline=None)
@given(st.lists(st.tuples(words, words, words), max_size=3), words, words)
def test_round_trip_of_any_canonical_text(rounds: list[tuple[str, str, str]], last: str, answer: str) -> None:
    text = "".join(
        f"{think}\n<code>\n```python\n{code}\n```\n</code>\n<interpreter>\n{result}\n</interpreter>\n\n"
        for think, code, result in rounds
    )
    text += f"{last}\n<answer>\n\\boxed{{{answer}}}\n</answer>"
    messages = retool.to_messages(text)
    assert retool.to_text(messages) == text
    assert [c.arguments["code"] for m in messages for c in m.calls] == [code for _, code, _ in rounds]
    assert len(retool.loss_mask(text)) == len(text)


def test_the_pause() -> None:
    generated = "Now:\n<code>\n```python\nprint(6*7)\n```\n</code>"
    code = retool.code_of(generated)
    assert code == "print(6*7)"
    appended = retool.observation_text(retool.result_text(code, run(code)))
    assert appended == "</code>\n<interpreter>\n42\n</interpreter>\n\n"


def test_results_of_failing_and_empty_code() -> None:
    assert retool.result_text("y", run("y")) == "NameError: name 'y' is not defined"
    assert retool.code_of("no code here") == ""
    assert retool.result_text("", Observation("")) == "None"


def answered(answer: str | None, calls: int = 0) -> Trajectory:
    reply = Message("assistant", calls=tuple(Call("code_interpreter") for _ in range(calls)))
    turn = Turn(0, None, (), (1,), (-0.1,), reply, observations=(Observation("1"),) * calls)
    return Trajectory(TASK, (turn,), answer=answer)


def test_boxed() -> None:
    assert retool.boxed("\\boxed{2} ... \\boxed{3}") == "3"
    assert retool.boxed("\\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert retool.boxed("\\boxed{1") is None
    assert retool.boxed(None) is None


def test_reward_of_the_paper() -> None:
    """The last box counts; no box is wrong, and code earns nothing."""
    group = [
        answered("\\boxed{2} then \\boxed{42}"),
        answered("\\boxed{42} then \\boxed{2}", 3),
        answered("42"),
        answered(None),
    ]
    assert [s.value for s in retool.retool_reward(TASK, group)] == [1, -1, -1, -1]
    assert [s.value for s in retool.retool_reward(TASK, group, need_box=False)] == [1, -1, 1, -1]


def test_reward_of_the_community() -> None:
    """Messages 2, 4, 6, 8, 10, 12, 20 are 0, 1, 2, 3, 4, 5, 9 calls; the reward of wrong answers stops at -.6."""
    wrong = [answered("\\boxed{1}", calls) for calls in (0, 1, 2, 3, 4, 5, 9)]
    got = [s.value for s in retool.community_reward(TASK, wrong)]
    assert got == pytest.approx([-1, -0.9, -0.8, -0.7, -0.6, -0.6, -0.6])
    assert retool.community_reward(TASK, [answered("\\boxed{42}", 9)])[0].value == 1.0


def test_the_two_rewards_differ_on_hopeless_groups() -> None:
    """Ablation: with all answers wrong the paper's reward gives nothing to learn from, the community's pays for
    calls.
    """
    group = [answered("\\boxed{1}", calls) for calls in (0, 4)]
    assert len({s.value for s in retool.retool_reward(TASK, group)}) == 1
    assert len({s.value for s in retool.community_reward(TASK, group)}) == 2


def test_rewrites_are_executed_again() -> None:
    assert retool.rewrite_problem(TASK, TEXT, run) == ""
    assert retool.rewrite_problem(TASK, TEXT.replace("42\n</inter", "43\n</inter"), run).startswith("result:")
    assert retool.rewrite_problem(TASK, TEXT.replace("boxed{42}", "boxed{41}"), run).startswith("answer:")
    assert retool.rewrite_problem(TASK, "It is \\boxed{42}", run) == "format: no code block"
    assert retool.rewrite_problem(TASK, "<code>", run).startswith("format:")


def test_cold_start_keeps_what_passes_and_says_why_the_rest_does_not() -> None:
    texts = {"good": TEXT, "bad": TEXT.replace("print(6*7)", "y")}
    found = retool.cold_start([(TASK, "good"), (TASK, "bad")], lambda task, solution: texts[solution], run)
    assert [len(messages) for _, messages in found.kept] == [4]
    assert found.kept[0][1][0].content == TASK.prompt
    assert "NameError" in found.dropped[0][1]


def test_recipes() -> None:
    base = Recipe(lambda task, session: iter(()), outcome, group_relative, surrogate, token_mean)  # type: ignore[arg-type,return-value]
    paper, community = retool.recipe(base), retool.community_recipe(base)
    assert paper.critic is not None
    assert paper.reward is retool.retool_reward
    assert community.critic is None
    assert isinstance(community.objective, partial)
    assert community.objective.keywords == {"lo": 0.2, "hi": 0.28, "dual": 10.0}
    small = retool.small_recipe(base)
    assert (small.samples, small.critic) == (base.samples, None)


def test_steps_to() -> None:
    assert experiment.steps_to([0.1, 0.4, 0.7], 0.4, every=5) == 5.0
    assert experiment.steps_to([0.1, 0.4], 0.9, every=5) == float("inf")


def test_paper_is_found() -> None:
    assert find("retool") is retool.PAPER
    with pytest.raises(ValueError, match="known: small, tiny"):
        retool.claim("large")
