import json
from pathlib import Path

import pytest

from ferrule.agents.flow import opening
from ferrule.core.records import Call, Image, Message, Task
from ferrule.rewards.verify import VERIFIERS as REAL
from ferrule.rewards.verify import verify
from ferrule.worlds.rows import VERIFIERS
from ferrule.worlds.user import UserWorld, from_file

TOOLS = '''
from ferrule.tools.tool import tool

@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x
'''


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_an_empty_split_says_what_to_do() -> None:
    easy = Task("t", "Double 1.", "2", meta={"level": 1})
    world = UserWorld("sums", {"train": (easy,)})
    with pytest.raises(ValueError, match=r"has no test tasks .* add rows, or give a folder"):
        world.tasks("test", 1)
    with pytest.raises(ValueError, match="choose levels that its rows have"):
        world.tasks("train", 1, levels=(2,))
    with pytest.raises(ValueError, match="its only row is kept for tests: add rows"):
        UserWorld("sums", {"test": (easy,)}).tasks("train", 1)
    with pytest.raises(ValueError, match="its rows are for tests only"):
        UserWorld("sums", {"test": (easy, easy)}).tasks("train", 1)


@pytest.mark.parametrize("name", ["none.jsonl", "none.json"])
def test_a_file_without_rows_is_told_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[]" if name.endswith("json") else "\n \n")
    with pytest.raises(ValueError, match=rf"{name} holds no rows"):
        from_file(tmp_path / name)


def test_a_file_with_tools_and_the_same_tasks_without(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Double {i}.", "answer": 2 * i, "verifier": "numeric", "meta": {"topic": "sums"}} for i in range(40)
    ]
    (tmp_path / "tools.py").write_text(TOOLS)
    world = from_file(write(tmp_path / "sums.jsonl", *rows), tools=tmp_path / "tools.py")
    assert world.name == "sums"
    assert sum(world.sizes.values()) == 40
    assert 1 <= world.sizes["test"] <= 20  # a fifth is expected
    task = world.tasks("train", 1)[0]
    assert task.meta == {"topic": "sums", "verifier": "numeric"}
    assert task.world == "sums"
    session = world.start(task)
    number = int(task.prompt.split()[1].rstrip("."))
    assert session.act(Call("double", {"x": number})).text == str(task.answer)
    bare = type(task)(**{**{f: getattr(task, f) for f in task.__slots__}, "tools": ()})
    assert world.start(bare).tools == ()
    assert verify(task.meta["verifier"], f"It is {task.answer}.", task.answer) == 1.0


def test_the_split_follows_the_prompt_and_not_the_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "answer": "a"} for i in range(60)]
    one = from_file(write(tmp_path / "a.jsonl", *rows))
    two = from_file(write(tmp_path / "b.jsonl", *rows[::-1]))
    for split in ("train", "test"):
        assert {t.prompt for t in one.rows[split]} == {t.prompt for t in two.rows[split]}
    assert not {t.prompt for t in one.rows["train"]} & {t.prompt for t in one.rows["test"]}


def test_a_folder_is_split_by_its_files(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", {"prompt": "a", "answer": "1"}, {"prompt": "b", "answer": "2"})
    write(tmp_path / "d" / "test.jsonl", {"prompt": "c", "answer": "3"})
    assert from_file(tmp_path / "d").sizes == {"train": 2, "test": 1}
    with pytest.raises(FileNotFoundError, match=r"neither train\.jsonl nor test\.jsonl"):
        from_file(tmp_path)


def test_tasks_are_drawn_by_seed_and_each_once(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", *({"prompt": f"p{i}", "answer": "a", "level": 1 + i % 2} for i in range(6)))
    world = from_file(tmp_path / "d")
    assert world.tasks("train", 6, seed=3) == world.tasks("train", 6, seed=3)
    assert world.tasks("train", 6, seed=3) != world.tasks("train", 6, seed=4)
    assert len({t.id for t in world.tasks("train", 6)}) == 6
    assert [t.meta["level"] for t in world.tasks("train", 12, levels=[2])] == [2, 2, 2], (
        "three of six, and no round more"
    )
    with pytest.raises(ValueError, match="no test tasks"):
        world.tasks("test", 1)
    with pytest.raises(ValueError, match="did you mean 'train'"):
        world.tasks("trains", 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "line 2: not JSON"),
        ([1], "line 2: a row must be a JSON object, not list"),
        ({"promt": "x", "answer": "1"}, r"line 2: no field 'prompt'; did you mean 'promt'\?"),
        ({"prompt": "x", "answr": "1"}, r"line 2: no field 'answer'; did you mean 'answr'\?"),
        ({"prompt": [{"role": "bot"}], "answer": "1"}, "line 2: message 0: role is 'bot'"),
        (
            {"prompt": [{"role": "assistant", "content": "x"}], "answer": "1"},
            "line 2: the prompt ends with a message of",
        ),
        ({"prompt": "x", "answer": "1", "tools": [{"nme": "f"}]}, "line 2: a tool's schema is an object with a name"),
        ({"prompt": " ", "answer": "1"}, "line 2: the field 'prompt' must be a text"),
        ({"prompt": "x", "answer": None}, "line 2: the field 'answer' is empty"),
        (
            {"prompt": "x", "answer": "1", "verifier": "numerc"},
            "line 2: unknown verifier 'numerc'; did you mean 'numeric'",
        ),
        (
            {"prompt": "x", "answer": "1", "verifer": "numeric"},
            r"line 2: unknown field 'verifer'; did you mean 'verifier'\? Put a field of your own of such a name under 'meta'",
        ),
        ({"prompt": "x", "answer": "1", "meta": "sums"}, "line 2: the field 'meta' must be a JSON object, not str"),
        (
            {"prompt": "x", "answer": "1", "tools": "add"},
            "line 2: the field 'tools' must be a list of names or schemas",
        ),
        ({"prompt": "x", "answer": "one", "verifier": "numeric"}, "line 2: the answer 'one' is not a number"),
        ({"prompt": "x", "answer": "(", "verifier": "regex"}, "line 2: the answer '\\(' is not a regular expression"),
        (
            {"prompt": "x", "answer": "x ==", "verifier": "python"},
            "line 2: the answer 'x ==' is not a Python expression",
        ),
    ],
)
def test_bad_rows_are_refused_with_file_line_and_reason(tmp_path: Path, row: object, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "fine", "answer": "1"}, row)
    with pytest.raises(ValueError, match=r"rows\.jsonl, " + reason):
        from_file(path)


def test_a_row_says_which_tools_it_may_use(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    rows = [{"prompt": "a", "answer": "1", "tools": []}, {"prompt": "b", "answer": "2", "tools": ["double"]}]
    world = from_file(write(tmp_path / "sums.jsonl", *rows), tools=tmp_path / "tools.py")
    tasks = {task.prompt: task for part in world.rows.values() for task in part}
    assert {p: [tool.name for tool in world.start(task).tools] for p, task in tasks.items()} == {
        "a": [],
        "b": ["double"],
    }
    write(tmp_path / "sums.jsonl", {"prompt": "b", "answer": "2", "tools": ["doubel"]})
    with pytest.raises(ValueError, match="offers the tool 'doubel'; did you mean 'double'"):
        from_file(tmp_path / "sums.jsonl", tools=tmp_path / "tools.py")


def test_equal_rows_are_one_task(tmp_path: Path) -> None:
    one, other = {"prompt": "a", "answer": "1"}, {"prompt": "a", "answer": "2"}
    world = from_file(write(tmp_path / "rows.jsonl", one, one, other, one))
    assert sorted(t.answer for part in world.rows.values() for t in part) == ["1", "2"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_rows_leave_something_to_test(tmp_path: Path, count: int) -> None:
    # CRC-32 modulo 5 of "p0", "p1", "p3" is 1, 2, 4 and of "p2", "p8", "p11" 0, 0, 0: all train, and all test.
    for names in (["p0", "p1", "p3"], ["p2", "p8", "p11"]):
        rows = [{"prompt": name, "answer": "1"} for name in names[:count]]
        sizes = from_file(write(tmp_path / "rows.jsonl", *rows)).sizes
        assert sizes["test"] >= 1
        assert sizes["train"] >= min(count - 1, 1)
        assert sum(sizes.values()) == count


def test_fields_can_be_named_and_verifiers_are_those_of_the_rewards(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", {"q": "x", "a": "1"})
    world = from_file(path, prompt_field="q", answer_field="a", verifier="numeric")
    ((task,),) = (tasks for tasks in world.rows.values() if tasks)
    assert (task.prompt, task.answer, task.meta) == ("x", "1", {"verifier": "numeric"})
    assert set(VERIFIERS) == set(REAL)
    with pytest.raises(ValueError, match="unknown verifier 'fuzzy'"):
        from_file(path, prompt_field="q", answer_field="a", verifier="fuzzy")


def test_hugging_face_data_sets(tmp_path: Path) -> None:
    import datasets

    rows = [{"q": f"p{i}", "a": str(i)} for i in range(30)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "one"))
    world = from_file(tmp_path / "one", prompt_field="q", answer_field="a", verifier="numeric")
    assert sum(world.sizes.values()) == 30
    assert world.sizes["test"] > 0
    parts = {"train": datasets.Dataset.from_list(rows[:20]), "test": datasets.Dataset.from_list(rows[20:])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "two"))
    assert from_file(tmp_path / "two", prompt_field="q", answer_field="a").sizes == {"train": 20, "test": 10}
    with pytest.raises(ValueError, match=r"one \(all\), row 0: the columns 'q', 'a' make up no format"):
        from_file(tmp_path / "one")


def test_columns_are_recognised_and_other_columns_go_to_meta(tmp_path: Path) -> None:
    row = {"question": "1+1", "answer": "2", "solution": "1+1=2", "topic": "sums", "Level": 3, "note": None}
    world = from_file(write(tmp_path / "rows.jsonl", row))
    ((task,),) = (tasks for tasks in world.rows.values() if tasks)
    assert (task.prompt, task.answer) == ("1+1", "2")
    assert task.meta == {"verifier": "exact", "solution": "1+1=2", "topic": "sums", "level": 3}
    assert world.notes == ("not used: 'solution'; read as 'tasks' from question, answer, Level",)
    by_solution = from_file(tmp_path / "rows.jsonl", answer_field="solution")
    assert [t.answer for tasks in by_solution.rows.values() for t in tasks] == ["1+1=2"]


def test_a_prompt_of_messages_is_what_the_model_is_asked(tmp_path: Path) -> None:
    asked = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
    ]
    row = {"prompt": asked, "answer": "a ring", "images": ["ring.jpg"]}
    world = from_file(write(tmp_path / "rows.jsonl", row))
    ((task,),) = (tasks for tasks in world.rows.values() if tasks)
    system, user = opening(task)
    assert task.prompt == "What is this?"
    assert system == Message("system", "Be brief.")
    assert user.content == (Image("ring.jpg", "image/jpeg"), "What is this?")
    assert opening(task, "Use tools.")[0].content == "Use tools.\n\nBe brief."
    assert "images" not in task.meta


def test_schemas_of_a_row_are_on_offer_and_their_calls_refused(tmp_path: Path) -> None:
    """A name that the file of tools defines stays that function; a schema alone can be called and is refused."""
    (tmp_path / "tools.py").write_text(TOOLS)
    schemas = [{"name": "weather", "parameters": {"type": "dict", "properties": {"city": {"type": "str"}}}},
               {"type": "function", "function": {"name": "double", "parameters": {}}}]  # fmt: skip
    rows = [{"prompt": "a", "answer": "1", "tools": json.dumps(schemas)}, {"prompt": "b", "answer": "2"}]
    world = from_file(write(tmp_path / "rows.jsonl", *rows), tools=tmp_path / "tools.py")
    tasks = {task.prompt: task for part in world.rows.values() for task in part}
    session = world.start(tasks["a"])
    assert [tool.name for tool in session.tools] == ["weather", "double"]
    assert session.act(Call("double", {"x": 4})).text == "8"
    refused = session.act(Call("weather", {"city": "Oslo"}))
    assert (refused.status, refused.text) == ("refused", "'weather' has no function behind it, only a schema")
    assert [tool.name for tool in world.start(tasks["b"]).tools] == ["double"]


def test_rows_of_another_format_say_what_reads_them(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"})
    with pytest.raises(ValueError, match=r"line 1: .*rows of format 'preference' are read by ferrule prefer"):
        from_file(tmp_path / "pairs.jsonl")


def test_a_file_that_starts_with_a_byte_order_mark_is_a_file_of_tasks(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "1+1", "answer": "2"}\n')
    ((task,),) = (tasks for tasks in from_file(tmp_path / "rows.jsonl").rows.values() if tasks)
    assert (task.prompt, task.answer) == ("1+1", "2")


def test_answers_that_all_end_in_a_marked_number_are_that_number(tmp_path: Path) -> None:
    one, two = ({"question": q, "answer": f"so it is\n#### {n}"} for q, n in (("a", "1,206"), ("b", "7")))
    world = from_file(write(tmp_path / "rows.jsonl", one, two), verifier="numeric")
    assert sorted(t.answer for tasks in world.rows.values() for t in tasks) == ["1206", "7"]
    assert world.notes == ("the number after '####' is the answer, of what 'answer' says",)
    mixed = from_file(write(tmp_path / "mixed.jsonl", one, {"question": "c", "answer": "x"}))
    assert sorted(t.answer for tasks in mixed.rows.values() for t in tasks) == ["so it is\n#### 1,206", "x"]
