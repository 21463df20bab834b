"""Your own tasks: a JSONL file or a Hugging Face data set with prompts, answers and a verifier, and a file of tools.

Known shapes load by name (``known``): their files lie in one folder per data set under a data folder, which the
argument ``data`` or the environment variable ``FERRULE_DATA`` names.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.files import ToolSource
from ferrule.tools.search import search_tool
from ferrule.tools.sources import Tools, tool_source
from ferrule.worlds.rows import FIELDS, SPLITS, Row, Shape, divided, read_rows, tasks_of
from ferrule.worlds.session import ToolSession, offered

__all__ = [
    "SHAPES",
    "Known",
    "UserWorld",
    "calls_of",
    "data_folder",
    "from_dataset",
    "from_file",
    "known",
]


@dataclass(frozen=True)
class UserWorld:
    """Tasks from rows, with tools from a source or a tuple, or with none.

    ``rows`` maps a split to its tasks in file order; ``calls`` caps the tool calls of an episode. A task with
    ``tools=()`` is the same task without tools, judged by the same verifier. With a ``source`` every episode starts
    from a state of its own; without, all episodes share the ``tools`` and whatever these keep.
    """

    name: str
    rows: Mapping[str, tuple[Task, ...]] = field(repr=False)
    tools: tuple[Tool, ...] = ()
    calls: int = 16
    source: ToolSource | None = field(default=None, repr=False)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of tasks by split."""
        return {split: len(self.rows.get(split, ())) for split in SPLITS}

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` tasks of a split, each once, in an order drawn from ``seed``.

        Fewer come back when the split holds no more. Rows with a whole number as ``level`` are chosen by ``levels``;
        other rows always count. Raises ``ValueError`` when there is nothing to draw from.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; {nearest(split, SPLITS)}")
        chosen = [task for task in self.rows.get(split, ()) if _at(task, levels)]
        if not chosen and count:
            raise ValueError(self._nothing(split, levels))
        keys = {task.id: random.Random(f"{seed}/{task.id}").random() for task in chosen}
        return sorted(chosen, key=lambda task: (keys[task.id], task.id))[:count]

    def _nothing(self, split: str, levels: Sequence[int]) -> str:
        what = f"{self.name!r} has no {split} tasks of levels {list(levels)} (tasks: {self.sizes})"
        if self.rows.get(split):
            return f"{what}; choose levels that its rows have"
        if split == "train":
            return f"{what}; its rows are for tests only"
        return f"{what}; a fifth of a file's rows is test: add rows, or give a folder with train.jsonl and test.jsonl"

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the world's tools."""
        if self.source is not None:
            return ToolSession(task, self.source.build, self.source.start(), budget=Budget(total=self.calls))
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
    tools: Tools = (),
    verifier: str = "exact",
    prompt_field: str = "prompt",
    answer_field: str = "answer",
    verifier_field: str = "verifier",
    name: str = "",
    calls: int = 16,
) -> UserWorld:
    """Build a world from a JSONL file, or from a folder with ``train.jsonl`` and ``test.jsonl``.

    A single file is split by the CRC-32 of the prompt (a fifth is ``test``). Every row needs a prompt and an answer;
    its ``verifier`` takes precedence over the argument, ``tools`` names those it may use, ``level``, ``calls``,
    ``entities`` and ``source`` go to ``Task.meta``, and so does all that ``meta`` holds. Raises ``FileNotFoundError``
    for a missing file and ``ValueError`` naming file, line and reason for an invalid row or an unknown field.
    """
    path = Path(path)
    shape = Shape(prompt_field, answer_field, verifier, verifier_field, fields=FIELDS)
    if path.is_dir():
        files = {split: path / f"{split}.jsonl" for split in SPLITS if (path / f"{split}.jsonl").is_file()}
        if not files:
            raise FileNotFoundError(f"{path} holds neither train.jsonl nor test.jsonl")
        rows = {split: tasks_of(name or path.stem, read_rows(file), shape, file.stem) for split, file in files.items()}
    else:
        rows = divided(tasks_of(name or path.stem, read_rows(path), shape, path.stem))
    world = _world(name or path.stem, rows, tools, calls)
    for task in (task for tasks in rows.values() for task in tasks):
        offered(world.tools, task)  # refuses the names of tools that there are not
    return world


def from_dataset(
    source: str | Path,
    *,
    config: str | None = None,
    tools: Tools = (),
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

    parted = {split: tasks_of(label, numbered(split), shape, split) for split in parts}
    if not set(SPLITS) & set(parted) or len(parted) == 1:
        parted = divided(tuple(task for tasks in parted.values() for task in tasks))
    return _world(label, {split: parted.get(split, ()) for split in SPLITS}, tools, calls)


def _world(name: str, rows: Mapping[str, tuple[Task, ...]], tools: Tools, calls: int) -> UserWorld:
    source = tool_source(tools)
    state = source.start()
    offer = source.build(state)
    if hasattr(state, "close"):
        state.close()
    return UserWorld(name, rows, offer, calls, source)


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


def known(name: str, *, data: str | Path | None = None, tools: Tools = (), calls: int = 16) -> UserWorld:
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
        tasks = tasks_of(name, read_rows(file), entry.shape, part)
        rows.update(divided(tasks) if part == "all" else {part: tasks})
    if not tools and entry.corpus and (folder / entry.corpus).is_file():
        tools = (search_tool(folder / entry.corpus),)
    return _world(name, rows, tools, calls)
