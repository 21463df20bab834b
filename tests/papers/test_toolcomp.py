"""ToolComp: what is asked, grades and judged steps, reviewed runs, reward models, and the script of the claim.

The reading of choices is in ``tests/rewards/test_pairwise.py``, grades by rule in ``tests/rewards/test_graded.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.rewards.judges import judged
from tests.toys import Bench, layout, own_world, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.agents.reviewed import Ruling
from ferrule.agents.scored import AGGREGATES, last_score
from ferrule.agents.search import Node
from ferrule.core.flows import Ask
from ferrule.core.recipe import Drawn, Stage
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.data.corrections import corrections, run_corrections
from ferrule.data.records import Preference
from ferrule.data.trees import tree_of
from ferrule.papers import find, toolcomp
from ferrule.papers.claims.toolcomp import fitted_scorer, sampled_runs
from ferrule.policies.scripted import Scripted, encode
from ferrule.rewards.graded import gold_of, graded
from ferrule.rewards.pairwise import read_choice
from ferrule.rollout.drive import drive
from ferrule.studies.standins.reckoning import FEATURES, Reckoning, corrected_step, features, reckoner
from ferrule.studies.table import plain
from ferrule.tools.calculator import calculator
from ferrule.worlds.session import Toolbox

# ------------------------------------------------------------------------------------------------------------ the tasks


def test_a_task_tells_its_day_and_the_form_of_the_answer() -> None:
    one = toolcomp.asked(Task("t", "How old?", meta={"date": "Monday, May 06, 2024"})).prompt
    assert one.startswith("Today is Monday, May 06, 2024.\n\nHow old?\n\nEnd with")
    assert toolcomp.asked(Task("t", "?", meta={"date": None})).prompt.startswith(f"Today is {toolcomp.TODAY}.")
    world = toolcomp.asking(own_world())
    (task,) = world.tasks("test", 1)
    assert task.prompt.startswith("Today is Tuesday, September 03, 2024.")
    assert (task.id, world.name) == (own_world().tasks("test", 1)[0].id, "own")
    session = world.start(task)
    assert [tool.name for tool in session.tools] == ["calculator"]
    session.close()
    with pytest.raises(ValueError, match="asked by messages"):
        toolcomp.asked(replace(task, messages=(Message("user", "?"),)))


def test_two_tools_are_chat_and_more_enterprise() -> None:
    assert [toolcomp.split_of(["a"] * count) for count in (2, 3, 11)] == ["chat", "enterprise", "enterprise"]
    with pytest.raises(ValueError, match="has 1"):
        toolcomp.split_of([calculator])


def test_finishing_hands_in_a_list_that_is_graded() -> None:
    end = Message("assistant", "", (Call("finish", {"answer": ["b", 3]}),))
    (episode,) = drive(ToolLoop(), [Task("t", "?")], Toolbox((toolcomp.finish_tool(),)), Scripted([end]))
    assert graded(str(episode.trajectories[0].answer), gold_of("[3, b]")) == "correct"


# ------------------------------------------------------------------------------------------------------------- measures


def test_half_of_an_interval() -> None:
    """1.96 sqrt(0.25 / 485) = 1.96 * 0.0227038."""
    assert toolcomp.half_width(0.5, 485) == pytest.approx(0.044500, abs=1e-6)
    with pytest.raises(ValueError, match="of 0"):
        toolcomp.half_width(0.5, 0)


def test_failed_requests_leave_the_means() -> None:
    """plan (1 + 0.5) / 2, step (0 + 1 + 1) / 3, all 3.5 / 5."""
    levels = ["plan", "step", "plan", "step", "step", "step"]
    result = toolcomp.accuracies([1.0, 0.0, 0.5, None, 1.0, 1.0], levels)
    assert {name: (round(each.value, 4), each.count) for name, each in result.items()} == {
        "all": (0.7, 5), "plan": (0.75, 2), "step": (0.6667, 3),
    }  # fmt: skip
    assert result["all"].high - result["all"].value == pytest.approx(1.96 * (0.7 * 0.3 / 5) ** 0.5)
    assert toolcomp.accuracies([None], ["plan"]) == {}
    with pytest.raises(ValueError, match="named 'all'"):
        toolcomp.accuracies([1.0], ["all"])


def test_judges_are_compared_on_what_all_of_them_answered() -> None:
    scores = toolcomp.on_shared({"a": [1.0, None, 0.0], "b": [0.5, 1.0, 1.0]})
    assert scores == {"a": [1.0, None, 0.0], "b": [0.5, None, 1.0]}


ASKED = Message("user", "Add 2 and 3, then double.")


def better(text: str, than: str, *before: Message, level: str = "step") -> Preference:
    sides = ((Message("assistant", text),), (Message("assistant", than),))
    return Preference((ASKED, *before), *sides, (calculator,), {"level": level})


@pytest.mark.parametrize(
    ("replies", "score"), [(("1", "2"), 1.0), (("2", "1"), 0.0), (("1", "1"), 0.5), (("tie", "2"), 0.5),
                           (("both", "2"), 0.5)],
)  # fmt: skip
def test_a_better_step_is_shown_in_both_places(replies: tuple[str, str], score: float) -> None:
    """Pair scores: what cannot be read is unknown, and counts one half."""
    said = iter(replies)
    result, questions = judged(
        toolcomp.judged_items([better("right", "wrong")]), lambda text: f'{{"better_step": "{next(said)}"}}'
    )
    assert result == [score]
    assert [text.index("right") < text.index("wrong") for text in questions] == [True, False]


def test_a_judge_sees_task_tools_and_history_and_is_read_by_the_level() -> None:
    """Judged by the place of the better one; a plan that is answered under the key of a step is unknown."""

    def judge(text: str) -> str:
        return '{"better_step": 1}' if text.index("good") < text.index("bad") else '{"better_step": 2}'

    call = Message("assistant", "", (Call("calculator", {"expression": "2 + 3"}),))
    pairs = [
        better("good", "bad", call, Message("tool", "5", name="calculator")), better("good", "bad", level="plan"),
    ]  # fmt: skip
    result, questions = judged(toolcomp.judged_items(pairs), judge)
    assert result == [1.0, 0.5]
    assert judged(toolcomp.judged_items(pairs, unknown=None), judge)[0] == [1.0, None]
    first, plan = questions[0], questions[2]
    for part in (plain_text(ASKED), "calculator: ", "calculator({'expression': '2 + 3'})\n5", "better_step"):
        assert part in first
    assert "Steps so far:\nnone" in plan
    assert "better_action_plan" in plan
    assert judged(toolcomp.judged_items([]), judge) == ([], [])


def test_system_text_is_part_of_the_task() -> None:
    pair = better("good", "bad", Message("assistant", "so"))
    pair = replace(pair, prompt=(Message("system", "Be brief."), *pair.prompt))
    _, questions = judged(toolcomp.judged_items([pair]), lambda text: "tie")
    assert f"Task:\nBe brief.\n{plain_text(ASKED)}\n\nTools:" in questions[0]
    assert "Steps so far:\nso\n\nCandidate 1" in questions[0]


def test_pairs_of_runs_are_no_items() -> None:
    with pytest.raises(ValueError, match="is plan or step, and this one's is run"):
        next(toolcomp.judged_items([better("a", "b", level="run")]))
    with pytest.raises(ValueError, match="this one's is None"):
        next(toolcomp.judged_items([replace(better("a", "b"), origin={})]))


def test_texts_are_no_steps() -> None:
    with pytest.raises(ValueError, match="has the text 'b'"):
        next(toolcomp.judged_items([Preference("a", "b", "c", origin={"level": "step"})]))


@pytest.mark.parametrize("level", ["plan", "step"])
def test_keys_by_level(level: str) -> None:
    key = toolcomp.KEYS[level]
    assert read_choice(f'{{"{key}": "TIE"}}', key) == "tie"
    assert read_choice('{"better_action_plan": "1"}', "better_step") == "unknown"


# -------------------------------------------------------------------------------------------- reviewed runs and rewards


def line(text: str) -> Message:
    return Message("assistant", "", (Call("write", {"line": text}),))


def steps(messages: Any) -> list[str]:
    replies = [message for message in messages if message.role == "assistant"]
    return [str(m.calls[0].arguments["line"]) if m.calls else plain_text(m) for m in replies]


WAYS: dict[str, str | Message] = {
    "p0": line("t1"), "t1": "lost", "p0*": line("s1"), "s1": line("s2"), "s2": "x", "s2*": "finish",
}  # fmt: skip
BETTER = {"p0": Message("assistant", "p0*"), "s2": line("s2*")}


def solver(request: Ask, sample: int) -> str | Message:
    done = steps(request.messages)
    return WAYS[done[-1]] if done else "p0"


def critic(task: Task, node: Node) -> Ruling:
    assert node.reply is not None
    return BETTER.get(steps([node.reply.message])[0], True)


def test_the_worked_tree() -> None:
    """([], p0* > p0) and ([p0*, s1], s2* > s2); the corrected run over the run as it was."""
    world = Bench()
    agent = toolcomp.reviewed(critic)
    assert (agent.turns, agent.retries, agent.restarts) == (30, 5, 3)
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(solver, renderer=layout()))
    tree = tree_of(episode.trajectories, lambda path: path.answer == "finish")
    assert [(steps(p.prompt), steps(p.chosen), steps(p.rejected)) for p in corrections(tree)] == [
        ([], ["p0*"], ["p0"]), (["p0*", "s1"], ["s2*"], ["s2"]),
    ]  # fmt: skip
    (run,) = run_corrections(tree)
    assert (steps(run.chosen), steps(run.rejected)) == (["p0*", "s1", "s2*", "finish"], ["p0", "t1", "lost"])
    said, _ = judged(
        toolcomp.judged_items(corrections(tree)),
        lambda text: "better_action_plan = 1" if "action plan" in text else "better_step: tie",
    )
    assert said == [0.5, 0.5]  # the plan by its place, the step by a tie


RUNS = {"A": [0.9, 0.2, 0.9], "B": [0.6, 0.6, 0.6], "C": [0.99, 0.5]}


@pytest.mark.parametrize(
    ("name", "pick"), [("min", "B"), ("max", "C"), ("mean", "C"), ("product", "C"), ("last", "A"), ("log-odds", "C")]
)
def test_the_way_to_one_number_decides_the_pick(name: str, pick: str) -> None:
    """Means 0.745, 0.667, 0.6; products 0.495, 0.162, 0.216; log-odds C (4.595 + 0) / 2, A 1.003, B 0.405."""

    def solve(request: Ask, sample: int) -> str | Message:
        done = steps(request.messages)
        run = done[0] if done else "ABC"[sample]
        return line(run) if len(done) < len(RUNS[run]) - 1 else f"it is {run}"

    def score(request: Ask, sample: int) -> str:
        done = steps(request.messages)
        return str(RUNS[done[0]])

    world = Bench()
    agent = toolcomp.reranked(samples=3, aggregate=AGGREGATES[name])
    (episode,) = drive(agent, world.tasks("train", 1), world, {"solver": Scripted(solve), "scorer": Scripted(score)})
    assert episode.trajectories[0].answer == f"it is {pick}"


def test_certain_scores_have_log_odds() -> None:
    assert AGGREGATES["log-odds"]([1.0, 1.0]) > AGGREGATES["log-odds"]([1.0, 0.5]) > 0 > AGGREGATES["log-odds"]([0.0])


class Speaking(Scripted):
    """A script whose texts can be laid out as rows."""

    def encode(self, text: str) -> tuple[int, ...]:
        return encode(text, layout().end)


@pytest.mark.parametrize(("learn", "count"), [(corrections, 2), (run_corrections, 1)])
def test_reward_models_learn_from_reviewed_runs(learn: Any, count: int) -> None:
    """A judge rejects p0 and s2, and a writer rewrites them: both are roles beside the trained policy."""
    judge = Scripted(lambda request, sample: "wrong" if _next(request) in ("p0", "write({'line': 's2'})") else "right")
    writer = Scripted(lambda request, sample: BETTER["p0" if "p0\n" in plain_text(request.messages[-1]) else "s2"])
    built = toolcomp.method(
        plain(agent=ToolLoop(max_tokens=99)), Bench(), learn=learn, runs=1,
        roles={"judge": judge, "annotator": writer}, max_steps=3,
    )  # fmt: skip
    (stage,) = built.stages
    assert isinstance(stage, Stage)
    assert ([head.name for head in stage.heads], dict(stage.settings)) == (["reward"], {"max_steps": 3})
    drawn = stage.data(Speaking(solver, renderer=layout()), 0)
    assert isinstance(drawn, Drawn)
    assert len(drawn.items) == count
    chosen = bytes(i for i in drawn.items[-1].chosen.ids if i < 256)
    assert b"s2*" in chosen


def _next(request: Ask) -> str:
    return plain_text(request.messages[-1]).split("Next step:\n")[1].split("\n\n")[0]


def test_another_policy_may_write_the_runs_of_a_reward_model(one_thread: None) -> None:
    stage = toolcomp.method(plain(), Bench(), critic=critic, runs=1, roles={"solver": Scripted(solver)}).stages[0]
    assert isinstance(stage, Stage)
    drawn = stage.data(tiny_policy(), 0)
    assert isinstance(drawn, Drawn)
    assert len(drawn.items) == 2


# ------------------------------------------------------------------------------------------------- the stand-in's script

WORLD = Reckoning()


def played(policy: Any, count: int = 6) -> Any:
    return drive(ToolLoop(turns=12), WORLD.tasks("test", count), WORLD, policy)


def test_chains_have_4_to_8_calls_and_a_script_that_never_errs_is_right() -> None:
    paths = [episode.trajectories[0] for episode in played(reckoner(0.0, 0.0))]
    assert [len(path.calls) for path in paths] == [4, 6, 8] * 2
    assert all(path.answer == path.task.answer for path in paths)
    assert len({path.task.answer for path in paths}) > 1


def test_a_script_errs_and_goes_on_from_what_it_holds() -> None:
    """At a chance of 1 every step has one thing wrong, and the critic gives the right one for it."""
    for episode in played(reckoner(1.0, 1.0)):
        (path,) = episode.trajectories
        assert path.answer != path.task.answer
        assert len(path.calls) == 4 + 2 * (int(path.task.id.rsplit("/", 1)[1]) % 3)
    agent = toolcomp.reviewed(corrected_step, plan="", turns=12)
    (episode,) = drive(agent, WORLD.tasks("test", 1), WORLD, reckoner(1.0, 1.0))
    tree = tree_of(episode.trajectories, lambda path: path.answer == path.task.answer)
    assert episode.trajectories[0].answer == episode.task.answer
    assert len(corrections(tree)) == 5  # four calls and the answer
    assert len(run_corrections(tree)) == 1


def test_features_pair_what_is_held_with_what_is_said() -> None:
    """Of 36 names, 9 operations and three tables of digits: oak for oak, add for add, 7 with 7 and 4 with 4."""
    ask = Message("user", "Task x: start with 17, then add oak.")
    look = Message("assistant", "", (Call("look_up", {"name": "oak"}),))
    add = Message("assistant", "", (Call("add", {"a": 17, "b": 24}),))
    seen = [ask, look, Message("tool", "24", name="look_up")]
    assert features([ask], look) == [6 * 2 + 2]
    assert features(seen, add) == [36, 45 + 77, 45 + 100 + 44]
    end = Message("assistant", "41")
    assert features([*seen, add, Message("tool", "41", name="add")], end) == [45 + 200 + 11]
    assert features([ask], Message("assistant", "no number")) == []
    assert max(45 + 200 + 99, 0) < FEATURES == 345


def test_a_scorer_learns_which_step_is_right() -> None:
    ask = Message("user", "Task x: start with 17, then add oak.")
    right, wrong = (Message("assistant", "", (Call("look_up", {"name": name}),)) for name in ("oak", "fir"))
    weights = fitted_scorer([Preference((ask,), (right,), (wrong,))] * 4, steps=20, rate=0.1)
    good, bad = (weights[features([ask], step)].sum() for step in (right, wrong))
    assert good > 0 > bad
    assert not fitted_scorer([], steps=20, rate=0.1).any()


def test_candidates_of_a_task_have_equally_many_steps() -> None:
    (group,) = sampled_runs("weak", 0, 1)
    assert len(group) == 16
    assert len({sum(m.role == "assistant" for m in said) for _, said, *_ in group}) == 1
    assert last_score([0.1, 0.2]) == 0.2


def test_paper_is_found() -> None:
    assert find("toolcomp") is toolcomp.PAPER
