"""Your own tasks: a JSONL file or a Hugging Face data set with prompts, answers and a verifier, and a file of tools.

Known shapes load by name (``known``): their files lie in one folder per data set under a data folder, which the
argument ``data`` or the environment variable ``FERRULE_DATA`` names.
"""

from __future__ import annotations

import ast
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.search import search_tool
from ferrule.tools.tool import load_tools
from ferrule.worlds.session import ToolSession

__all__ = [
    "SHAPES",
    "VERIFIERS",
    "Known",
    "Row",
    "Shape",
    "UserWorld",
    "calls_of",
    "data_folder",
    "from_dataset",
    "from_file",
    "known",
]

VERIFIERS = ("exact", "numeric", "math-verify", "regex", "python", "words")
"""Names that a row or a world may give for the comparison of answers."""
SPLITS = ("train", "test")
_TEST_SHARE = 5

Row = Mapping[str, Any]


def _split_of(prompt: str) -> str:
    return "test" if zlib.crc32(prompt.encode()) % _TEST_SHARE == 0 else "train"


@dataclass(frozen=True)
class UserWorld:
    """Tasks from rows, with tools from a file or a tuple, or with none.

    ``rows`` maps a split to its tasks in file order; ``calls`` caps the tool calls of an episode. A task with
    ``tools=()`` is the same task without tools, judged by the same verifier.
    """

    name: str
    rows: Mapping[str, tuple[Task, ...]] = field(repr=False)
    tools: tuple[Tool, ...] = ()
    calls: int = 16

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of tasks by split."""
        return {split: len(self.rows.get(split, ())) for split in SPLITS}

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return ``count`` tasks of a split in an order drawn from ``seed``, in a further round when they run out.

        Rows with a whole number as ``level`` are chosen by ``levels``; other rows always count. Raises ``ValueError``
        when there is nothing to draw from.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; {nearest(split, SPLITS)}")
        chosen = [task for task in self.rows.get(split, ()) if _at(task, levels)]
        if not chosen and count:
            raise ValueError(self._nothing(split, levels))
        tasks: list[Task] = []
        lap = 0
        while len(tasks) < count:
            keys = {task.id: zlib.crc32(f"{seed}/{lap}/{task.id}".encode()) for task in chosen}
            tasks += sorted(chosen, key=lambda task: (keys[task.id], task.id))
            lap += 1
        return tasks[:count]

    def _nothing(self, split: str, levels: Sequence[int]) -> str:
        what = f"{self.name!r} has no {split} tasks of levels {list(levels)} (tasks: {self.sizes})"
        if self.rows.get(split):
            return f"{what}; choose levels that its rows have"
        if split == "train":
            return f"{what}; its rows are for tests only"
        return f"{what}; a fifth of a file's rows is test: add rows, or give a folder with train.jsonl and test.jsonl"

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the world's tools."""
        return ToolSession(task, lambda state: self.tools, budget=Budget(total=self.calls))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the calls of the row's field ``calls``, one per round, and its answer.

        Raises ``ValueError`` for a row without the field, and for one whose answer is only a pattern or a test.
        """
        verifier = task.meta.get("verifier")
        if "calls" not in task.meta or verifier in ("regex", "python", "words"):
            lacks = f"only a {verifier} for its answer" if "calls" in task.meta else "no field 'calls'"
            raise ValueError(f"task {task.id!r} has {lacks}, so it has no reference solution")
        answer = task.answer[0] if isinstance(task.answer, list | tuple) else task.answer
        return Demonstration(tuple((call,) for call in calls_of(task)), str(answer))


def calls_of(task: Task) -> tuple[Call, ...]:
    """Return the calls of ``meta["calls"]``: rows of ``name`` and ``arguments`` (or ``parameters``)."""
    rows = task.meta["calls"]
    return tuple(Call(row["name"], row.get("arguments", row.get("parameters", {}))) for row in rows)


def _at(task: Task, levels: Sequence[int]) -> bool:
    level = task.meta.get("level")
    return not isinstance(level, int) or level in levels


def from_file(
    path: str | Path,
    *,
    tools: str | Path | Sequence[Tool] = (),
    verifier: str = "exact",
    prompt_field: str = "prompt",
    answer_field: str = "answer",
    verifier_field: str = "verifier",
    name: str = "",
    calls: int = 16,
) -> UserWorld:
    """Build a world from a JSONL file, or from a folder with ``train.jsonl`` and ``test.jsonl``.

    A single file is split by the CRC-32 of the prompt (a fifth is ``test``). Every row needs a prompt and an answer;
    its ``verifier`` takes precedence over the argument, and all other fields go to ``Task.meta``. Raises
    ``FileNotFoundError`` for a missing file and ``ValueError`` naming file, line and reason for an invalid row.
    """
    path = Path(path)
    shape = Shape(prompt_field, answer_field, verifier, verifier_field)
    if path.is_dir():
        files = {split: path / f"{split}.jsonl" for split in SPLITS if (path / f"{split}.jsonl").is_file()}
        if not files:
            raise FileNotFoundError(f"{path} holds neither train.jsonl nor test.jsonl")
        rows = {split: _tasks(name or path.stem, _read(file), shape, file.stem) for split, file in files.items()}
    else:
        rows = _divided(_tasks(name or path.stem, _read(path), shape, path.stem))
    return UserWorld(name or path.stem, rows, _tools(tools), calls)


def from_dataset(
    source: str | Path,
    *,
    config: str | None = None,
    tools: str | Path | Sequence[Tool] = (),
    verifier: str = "exact",
    prompt_field: str = "prompt",
    answer_field: str = "answer",
    verifier_field: str = "verifier",
    name: str = "",
    calls: int = 16,
) -> UserWorld:
    """Build a world from a Hugging Face data set: a hub name, or a folder written by ``save_to_disk``.

    Splits named train and test are taken as they are; a data set with one split is divided by the prompts. Needs the
    extra ``data`` (``ImportError`` otherwise).
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError('data sets need an extra: pip install "ferrule[data]"') from error
    loaded = (
        datasets.load_from_disk(str(source)) if Path(source).is_dir() else datasets.load_dataset(str(source), config)
    )
    parts = dict(loaded) if isinstance(loaded, Mapping) else {"all": loaded}
    label = name or Path(source).name
    shape = Shape(prompt_field, answer_field, verifier, verifier_field)

    def numbered(split: str) -> Iterator[tuple[str, Row]]:
        return ((f"{source} ({split}), row {i}", row) for i, row in enumerate(parts[split]))

    tasks_of = {split: _tasks(label, numbered(split), shape, split) for split in parts}
    if not set(SPLITS) & set(tasks_of) or len(tasks_of) == 1:
        tasks_of = _divided(tuple(task for tasks in tasks_of.values() for task in tasks))
    return UserWorld(label, {split: tasks_of.get(split, ()) for split in SPLITS}, _tools(tools), calls)


@dataclass(frozen=True)
class Shape:
    """How rows become tasks: the fields for prompt, answer and verifier, and how an answer text is read."""

    prompt_field: str = "prompt"
    answer_field: str = "answer"
    verifier: str = "exact"
    verifier_field: str = "verifier"
    answer: Callable[[Any], Any] = lambda value: value
    keep: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown verifier."""
        _check_verifier(self.verifier, "verifier")


def _check_verifier(verifier: Any, where: str) -> None:
    if verifier not in VERIFIERS:
        raise ValueError(f"{where}: unknown verifier {verifier!r}; {nearest(str(verifier), VERIFIERS)}")


def _read(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a JSONL file with their places."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; give a JSONL file with one task per line")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: a row must be a JSON object, not {type(row).__name__}")
            yield f"{path}, line {number}", row


def _field(row: Row, name: str, where: str, option: str) -> Any:
    if name not in row:
        known = list(row)
        raise ValueError(f"{where}: no field {name!r}; {nearest(name, known)}; name another with {option}=...")
    return row[name]


def _tasks(world: str, rows: Iterator[tuple[str, Row]], shape: Shape, part: str) -> tuple[Task, ...]:
    """Turn rows into tasks with ids ``world/part/index``; an invalid row is refused with its place."""
    tasks = []
    for index, (where, row) in enumerate(rows):
        prompt = _field(row, shape.prompt_field, where, "prompt_field")
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"{where}: the field {shape.prompt_field!r} must be a text that is not empty")
        answer = _field(row, shape.answer_field, where, "answer_field")
        if answer is None or (isinstance(answer, str) and not answer.strip()):
            raise ValueError(f"{where}: the field {shape.answer_field!r} is empty; every task needs an answer")
        verifier = row.get(shape.verifier_field) or shape.verifier
        _check_verifier(verifier, where)
        try:
            answer = shape.answer(answer)
            _check_answer(answer, verifier)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        used = {shape.prompt_field, shape.answer_field, shape.verifier_field}
        kept = {k: v for k, v in row.items() if k not in used and (shape.keep is None or k in shape.keep)}
        meta = {**kept, "verifier": verifier}
        tasks.append(Task(f"{world}/{part}/{index}", prompt, answer, world, meta=meta))
    if not tasks:
        raise ValueError(f"{world}: no rows in {part!r}")
    return tuple(tasks)


def _check_answer(answer: Any, verifier: str) -> None:
    """Refuse an expected answer for which the verifier could accept nothing."""
    for gold in answer if isinstance(answer, list | tuple) else [answer]:
        if verifier == "numeric" and (isinstance(gold, bool) or not re.search(r"\d", str(gold))):
            raise ValueError(f"the answer {gold!r} is not a number, which the verifier 'numeric' needs")
        try:
            if verifier == "regex":
                re.compile(str(gold))
            if verifier == "python":
                ast.parse(str(gold).strip(), mode="eval")
        except (re.error, SyntaxError) as error:
            what = "regular expression" if verifier == "regex" else "Python expression"
            raise ValueError(f"the answer {gold!r} is not a {what} ({error})") from None


def _divided(tasks: Sequence[Task]) -> dict[str, tuple[Task, ...]]:
    return {split: tuple(task for task in tasks if _split_of(task.prompt) == split) for split in SPLITS}


def _tools(tools: str | Path | Sequence[Tool]) -> tuple[Tool, ...]:
    return tuple(load_tools(tools)) if isinstance(tools, str | Path) else tuple(tools)


def data_folder(data: str | Path | None = None) -> Path:
    """Return the folder of known data sets: the argument, else ``FERRULE_DATA``; raises ``FileNotFoundError``."""
    chosen = data or os.environ.get("FERRULE_DATA")
    if not chosen:
        raise FileNotFoundError(
            "no data folder is set; pass data=... or set FERRULE_DATA to the folder that holds gsm8k/, hotpotqa/, ..."
        )
    if not Path(chosen).is_dir():
        raise FileNotFoundError(f"the data folder {str(chosen)!r} does not exist; correct data=... or FERRULE_DATA")
    return Path(chosen)


def _gsm8k(value: Any) -> str:
    """Return the number after the last ``####`` without sign of money, thousands separators and unit."""
    mark = re.search(r"####\s*\$?\s*(-?)\s*\$?(\d[\d,]*(?:\.\d+)?|\.\d+)[^#]*\Z", str(value))
    if not mark:
        raise ValueError("the answer has no number after '#### '")
    return mark[1] + mark[2].replace(",", "")


def _tara(value: Any) -> str:
    """Return the right answer of a pair: the number after ``####``, else what its sentence says after `` is ``."""
    text = value.get("answer") if isinstance(value, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError("pos_answer has no text in its field 'answer'")
    return _gsm8k(text) if "####" in text else text.rpartition(" is ")[2].strip()


@dataclass(frozen=True)
class Known:
    """A data set of a known shape: the folder, the file names per split, how its rows read, and a corpus to search.

    Of several file names for a split the first that exists is taken; a file under ``all`` is divided by the prompts.
    """

    folder: str
    files: Mapping[str, tuple[str, ...]]
    shape: Shape
    corpus: str = ""


SHAPES: Mapping[str, Known] = {
    "gsm8k": Known(
        "gsm8k",
        {"train": ("train.jsonl",), "test": ("test.jsonl", "test_first_half.jsonl")},
        Shape("question", "answer", "numeric", answer=_gsm8k, keep=()),
    ),
    "math500": Known(
        "competition_math",
        {"test": ("math500.jsonl", "math500_even.jsonl")},
        Shape("question", "answer", "math-verify", keep=("subject",)),
    ),
    "aime24": Known("competition_math", {"test": ("aime24.jsonl",)}, Shape("input", "output", "numeric", keep=())),
    "hotpotqa": Known(
        "hotpotqa",
        {"test": ("questions.jsonl", "questions_even.jsonl")},
        Shape("question", "answer", "exact", keep=("type",)),
        corpus="passages.jsonl",
    ),
    "tara_calculator": Known(
        "tara",
        {"all": ("calculator_train.jsonl",)},
        Shape("question", "pos_answer", "numeric", answer=_tara, keep=()),
    ),
    "tara_calendar": Known(
        "tara", {"all": ("calendar_train.jsonl",)}, Shape("question", "pos_answer", "exact", answer=_tara, keep=())
    ),
}
"""Data sets that ``known`` loads by name; those with a test file only have no train split."""


def known(
    name: str, *, data: str | Path | None = None, tools: str | Path | Sequence[Tool] = (), calls: int = 16
) -> UserWorld:
    """Build the world of a data set of known shape, such as ``gsm8k``; unknown names are refused with the nearest.

    Without ``tools`` a data set that comes with a corpus gets the tool ``search`` over it.
    """
    if name not in SHAPES:
        raise ValueError(f"unknown data set {name!r}; {nearest(name, list(SHAPES))}")
    entry = SHAPES[name]
    folder = data_folder(data) / entry.folder
    rows: dict[str, tuple[Task, ...]] = {}
    for part, files in entry.files.items():
        file = next((folder / file for file in files if (folder / file).is_file()), folder / files[0])
        tasks = _tasks(name, _read(file), entry.shape, part)
        rows.update(_divided(tasks) if part == "all" else {part: tasks})
    if not tools and entry.corpus and (folder / entry.corpus).is_file():
        tools = (search_tool(folder / entry.corpus),)
    return UserWorld(name, rows, _tools(tools), calls)
