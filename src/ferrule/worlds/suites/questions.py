"""Benchmarks of questions with one answer each, from any rows with the right columns: GSM8K, MATH-500, AIME and more.

Answers to HotpotQA are judged by exact match, with F1 beside it, both of the words as its official evaluation leaves
them; its questions come with the tool ``search`` over their paragraphs.

Sources: GSM8K, https://arxiv.org/abs/2110.14168; MATH-500, https://arxiv.org/abs/2305.20050 (of MATH,
https://arxiv.org/abs/2103.03874); AIME, the American Invitational Mathematics Examination; HotpotQA,
https://arxiv.org/abs/1809.09600; TARA, https://arxiv.org/abs/2310.01045.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Task
from ferrule.tools.calculator import calculator
from ferrule.tools.search import Document, search_tool
from ferrule.tools.sources import Tools
from ferrule.worlds.columns import MEANINGS
from ferrule.worlds.files import Table, hub_name, joined, read, read_file, readable, split_named
from ferrule.worlds.rows import Shape
from ferrule.worlds.suites.origins import folders, missing
from ferrule.worlds.user import UserWorld, after_mark, from_tables, meant, shape_of

__all__ = ["QUESTIONS", "Questions", "questions"]

_BRIEFLY = "Answer in as few words as possible, or with yes or no, and write the answer as <answer>...</answer>."


def _of_pair(value: Any) -> str:
    """Return the right answer of a pair: the number after ``####``, else what its sentence says after `` is ``."""
    text = value.get("answer") if isinstance(value, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError("pos_answer has no text in its field 'answer'")
    return after_mark(text) if "####" in text else text.rpartition(" is ")[2].strip()


@dataclass(frozen=True)
class Questions:
    """How the rows of a benchmark are found, read and judged.

    ``origin`` names the data, ``files`` the patterns of published files by split, beside names that begin with their
    split; ``all`` is divided by the prompts. ``answers`` is the column of answers where none of a usual name is there,
    ``answer`` reads one. Of the other columns ``keep`` go to ``Task.meta``, and ``beside`` are not missed by anybody.
    ``also`` are verifiers whose values are reported beside the score, ``ends`` the last words of every prompt.
    ``searched`` questions come with a search over their paragraphs, others with the calculator.
    """

    origin: str
    verifier: str
    files: Mapping[str, tuple[str, ...]]
    answers: str = ""
    answer: Callable[[Any], Any] = lambda value: value
    keep: tuple[str, ...] = ()
    beside: tuple[str, ...] = ("solution",)
    also: tuple[str, ...] = ()
    ends: str = ""
    searched: bool = False
    tests_only: bool = False


QUESTIONS: Mapping[str, Questions] = {
    "aime": Questions("aime", "numeric", {"test": ("aime*",)}, "output", keep=("year",), tests_only=True),
    "gsm8k": Questions("gsm8k", "numeric", {}, answer=after_mark),
    "hotpotqa": Questions(
        "hotpotqa", "plain", {"train": ("hotpot_train*",), "test": ("questions*", "hotpot_dev*")},
        keep=("type", "level"), also=("f1",), ends=_BRIEFLY, searched=True,
    ),
    "math500": Questions(
        "math500", "math-verify", {"test": ("math500*",)}, keep=("subject", "level"), tests_only=True
    ),
    "tara_calculator": Questions(
        "tara", "numeric", {"all": ("calculator_train*",)}, "pos_answer", _of_pair
    ),
    "tara_calendar": Questions("tara", "exact", {"all": ("calendar_train*",)}, "pos_answer", _of_pair),
}  # fmt: skip
"""Benchmarks of questions by name."""


def questions(
    name: str,
    *,
    data: str | Path | None = None,
    tools: Tools | None = None,
    verifier: str | None = None,
    prompt_field: str | None = None,
    answer_field: str | None = None,
) -> UserWorld:
    """Return a benchmark of questions as a world; ``data`` is what ``ferrule.worlds.files.read`` reads.

    In a folder the published names of its files are known as well; rows for tests alone are enough. Rows for training
    alone, and a file whose name tells no split, are divided by their prompts (a fifth is ``test``). ``tools`` replaces
    the calculator, or the search; ``verifier`` the benchmark's own comparison. Raises ``ValueError`` for an unknown
    name and an invalid row, ``FileNotFoundError`` where there is no data.
    """
    if name not in QUESTIONS:
        raise ValueError(f"no benchmark {name!r}; {nearest(name, list(QUESTIONS))}")
    entry = QUESTIONS[name]
    tables, place = _tables(name, entry, data)
    if set(tables) == {"train"}:
        tables = {"all": tables["train"]}  # so that there is something to measure on
    given = {"prompt": prompt_field, "answer": answer_field}
    fields = {meaning: column for meaning, column in given.items() if column is not None}

    def shaped(part: Table) -> tuple[Shape, Sequence[str]]:
        columns = meant(part, {**_answers(entry, part), **fields}, name)
        unused = tuple(column for column in columns.unused if column.lower() not in entry.beside)
        shape = shape_of(columns, verifier or entry.verifier)
        return replace(shape, answer=entry.answer, keep=entry.keep), [replace(columns, unused=unused).note]

    if tools is None:
        tools = _search(tables, place) if entry.searched else (calculator,)
    world = from_tables(name, tables, shaped, tools=tools)
    rows = {split: tuple(_finished(entry, task, verifier) for task in tasks) for split, tasks in world.rows.items()}
    lacking = () if world.tools or not entry.searched else ("no paragraphs to search came with the rows",)
    return replace(world, rows=rows, notes=(*world.notes, *lacking))


def _answers(entry: Questions, part: Table) -> dict[str, str]:
    """Return the column of the answers where it has no usual name."""
    if any(column.lower() in MEANINGS["answer"] for column in part.columns):
        return {}
    return {"answer": entry.answers} if entry.answers in part.columns else {}


def _finished(entry: Questions, task: Task, verifier: str | None) -> Task:
    """Return a task with the last words of its prompt, and with what is reported beside the score."""
    prompt = f"{task.prompt}\n\n{entry.ends}" if entry.ends and not task.messages else task.prompt
    also = {} if verifier or not entry.also else {"also_by": list(entry.also)}
    return replace(task, prompt=prompt, meta={**task.meta, **also})


# -------------------------------------------------------------------------------------------------------- tables


def _tables(name: str, entry: Questions, data: str | Path | None) -> tuple[dict[str, Table], Path | None]:
    """Return the tables of a benchmark by split, and the folder that holds them, None for a data set of the hub."""
    if data is not None and Path(data).is_file():
        file = Path(data)
        split = next((split for split, names in entry.files.items() if _named(file, names)), split_named(file.name))
        return {split or "all": read_file(file)}, file.parent
    if data is not None and not Path(data).is_dir():
        if not hub_name(data):
            raise FileNotFoundError(f"no file and no folder {str(data)!r} with the rows of {name!r}")
        return _as_published(entry, read(data)), None
    for folder in folders(entry.origin, data):
        shards = {split: _matching(folder, names) for split, names in entry.files.items()}
        if tables := {split: joined([read_file(file) for file in files]) for split, files in shards.items() if files}:
            return tables, folder
        if folder.is_dir() and (data is not None or folder.name == entry.origin):
            try:
                return _as_published(entry, read(folder)), folder
            except FileNotFoundError:
                continue
    raise FileNotFoundError(missing(entry.origin, "rows", data))


def _as_published(entry: Questions, tables: dict[str, Table]) -> dict[str, Table]:
    """Return the tables with the rows of a benchmark that has tests alone under ``test``."""
    return {"test": tables["all"]} if entry.tests_only and set(tables) == {"all"} else tables


def _named(file: Path, names: Sequence[str]) -> bool:
    return any(fnmatch(file.name, name) for name in names)


def _matching(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the files of these names in a folder."""
    return sorted(f for f in folder.iterdir() if readable(f) and _named(f, names)) if folder.is_dir() else []


# -------------------------------------------------------------------------------------------------------- search


def _search(tables: Mapping[str, Table], place: Path | None) -> Tools:
    """Return a search over ``passages.jsonl`` beside the rows, else over the paragraphs of all rows."""
    if place is not None and (place / "passages.jsonl").is_file():
        return (search_tool(place / "passages.jsonl"),)
    texts: dict[tuple[str, str], None] = {}
    for part in tables.values():
        for where, row in part.rows:
            texts.update(dict.fromkeys(_paragraphs(where, row.get("context"))))
    documents = [Document(str(number), title, text) for number, (title, text) in enumerate(texts)]
    return (search_tool(documents),) if documents else ()


def _paragraphs(where: str, context: Any) -> list[tuple[str, str]]:
    """Return title and text of each paragraph of a row: pairs, objects, or an object of two lists."""
    if context is None:
        return []
    try:
        if isinstance(context, Mapping):
            pairs = list(zip(context["title"], context["sentences"], strict=True))
        else:
            pairs = [(e["title"], e["sentences"]) if isinstance(e, Mapping) else tuple(e) for e in context]
        return [
            (str(title), sentences if isinstance(sentences, str) else "".join(sentences)) for title, sentences in pairs
        ]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{where}: 'context' holds no paragraphs of title and sentences") from None
