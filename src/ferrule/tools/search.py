"""The ``search`` tool: BM25 over a folder of text files, a JSONL file or a list of documents, or any retrieval given.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), in the form Lucene uses.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ferrule.core.clip import clip
from ferrule.core.records import Observation, Tool
from ferrule.tools.tool import tool

__all__ = ["BM25", "Document", "Retrieve", "bm25", "read_corpus", "search_tool"]

_SUFFIXES = (".txt", ".md", ".rst")


@dataclass(frozen=True)
class Document:
    """One text that can be retrieved, with its title and its source."""

    id: str
    title: str
    text: str


Retrieve: TypeAlias = Callable[[str, int], "Sequence[tuple[Document, float]]"]
"""``retrieve(query, k)`` returns at most ``k`` documents with their scores, the best first."""


class _Index(Protocol):
    def scores(self, words: Sequence[str]) -> npt.NDArray[np.float64]: ...


class BM25:
    """A small BM25 index for the base install, which has no retrieval package.

    Score of a document: the sum over the query's words w of ``idf(w) * tf / (tf + k1 * (1 - b + b * length /
    mean))`` with
    ``idf(w) = ln(1 + (n - df + 0.5) / (df + 0.5))``; n documents, df of them with w, tf times in this one.
    """

    def __init__(self, corpus: Sequence[Sequence[str]], k1: float = 1.5, b: float = 0.75) -> None:
        """Count the words of every document (given as words)."""
        lengths = np.asarray([len(words) for words in corpus], dtype=np.float64)
        self._size = len(corpus)
        norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1.0)) if len(corpus) else lengths
        rows: dict[str, list[tuple[int, float]]] = {}
        for i, words in enumerate(corpus):
            for word, count in Counter(words).items():
                rows.setdefault(word, []).append((i, count / (count + norm[i])))
        self._rows = {
            word: (
                np.asarray([i for i, _ in entries]),
                math.log(1 + (self._size - len(entries) + 0.5) / (len(entries) + 0.5))
                * np.asarray([x for _, x in entries]),
            )
            for word, entries in rows.items()
        }

    def scores(self, words: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return one score per document; 0 where no word occurs."""
        scores = np.zeros(self._size)
        for word in words:
            if word in self._rows:
                rows, values = self._rows[word]
                scores[rows] += values
        return scores


class _Bm25s:
    """The same scores by the ``bm25s`` package, which is faster on large collections."""

    def __init__(self, corpus: Sequence[Sequence[str]], k1: float = 1.5, b: float = 0.75) -> None:
        bm25s: Any = importlib.import_module("bm25s")
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float64")
        self._index.index([list(words) for words in corpus], show_progress=False)
        self._known = {word for words in corpus for word in words}
        self._size = len(corpus)

    def scores(self, words: Sequence[str]) -> npt.NDArray[np.float64]:
        known = [word for word in words if word in self._known]
        return np.asarray(self._index.get_scores(known), dtype=np.float64) if known else np.zeros(self._size)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def read_corpus(path: str | Path, *, title: str = "title", text: str = "text") -> list[Document]:
    """Read a folder of text files (.txt, .md, .rst; titled by file name) or a JSONL file with these two fields.

    Raises ``FileNotFoundError`` for a missing path and ``ValueError`` naming the line of a row that does not fit.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
        documents = [
            Document(str(file.relative_to(path)), file.stem, file.read_text(encoding="utf-8", errors="replace"))
            for file in files
        ]
    elif path.is_file():
        documents = [
            _row(line, f"{path}, line {number}", str(number), title, text)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if line.strip()
        ]
    else:
        raise FileNotFoundError(f"no corpus {str(path)!r}; give a folder of text files or a JSONL file")
    if not documents:
        raise ValueError(f"{path} holds no documents; a folder needs files ending in {', '.join(_SUFFIXES)}")
    return documents


def _row(line: str, where: str, number: str, title: str, text: str) -> Document:
    try:
        row = json.loads(line)
    except ValueError as problem:
        raise ValueError(f"{where}: not JSON ({problem})") from None
    if not isinstance(row, Mapping) or not isinstance(row.get(text), str):
        fields = ", ".join(row) if isinstance(row, Mapping) else type(row).__name__
        raise ValueError(f"{where}: no text in the field {text!r} (found: {fields}); name the field with text=...")
    return Document(str(row.get("id", number)), str(row.get(title, "")), row[text])


def bm25(documents: Sequence[Document]) -> Retrieve:
    """Return retrieval by BM25: documents that hold a word of the query; equal scores keep the order of the documents.

    Raises ``ValueError`` for no documents.
    """
    if not documents:
        raise ValueError("search_tool needs at least one document")
    built = [_words(f"{document.title} {document.text}") for document in documents]
    # A collection without a single word cannot be indexed by the package.
    fast = importlib.util.find_spec("bm25s") is not None and any(built)
    index: _Index = _Bm25s(built) if fast else BM25(built)

    def retrieve(query: str, k: int) -> list[tuple[Document, float]]:
        scores = index.scores(_words(query))
        return [(documents[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k] if scores[i] > 0]

    return retrieve


def search_tool(
    corpus: str | Path | Sequence[Document] | Retrieve,
    *,
    k: int = 3,
    snippet: int = 500,
    name: str = "search",
    title: str = "title",
    text: str = "text",
) -> Tool:
    """Build a tool that returns the ``k`` best documents of ``corpus`` for a query, each cut to ``snippet`` characters.

    ``corpus`` is a path for ``read_corpus`` or a list of documents, both ranked by ``bm25``, or a function that
    retrieves in another way (``Retrieve``): by a trained encoder, from a server. ``Observation.data`` lists id, title
    and score of the results.
    """
    if k < 1 or snippet < 1:
        raise ValueError(f"k is {k} and snippet is {snippet}; the least of both is 1")
    if isinstance(corpus, str | Path):
        corpus = read_corpus(corpus, title=title, text=text)
    retrieve = corpus if callable(corpus) else bm25(list(corpus))
    nothing = "nothing fits this query" if callable(corpus) else "no document contains these words"

    @tool(name=name)
    def search(query: str) -> Observation:
        """Search the documents for words and return the best matches.

        Args:
            query: the words to look for
        """
        words = _words(query)
        best = list(retrieve(query, k))[:k]
        if not best:
            return Observation(nothing, data=[])
        parts = [
            f"[{rank}] {document.title}\n{_snippet(document.text, words, snippet)}".replace("] \n", "]\n")
            for rank, (document, _) in enumerate(best, 1)
        ]
        hits = [{"id": document.id, "title": document.title, "score": round(score, 6)} for document, score in best]
        return Observation("\n\n".join(parts), data=hits)

    return search


def _snippet(text: str, words: Sequence[str], limit: int) -> str:
    """The stretch of ``limit`` characters, from the start of a sentence, that holds most of the query's words."""
    text = text.strip()
    if len(text) <= limit:
        return text
    starts = [0, *(match.end() for match in re.finditer(r"[.!?]\s+|\n+", text))][:2000]
    wanted = set(words)
    best = max(starts, key=lambda start: (len(wanted & set(_words(text[start : start + limit]))), -start))
    return clip(text[best:], limit)
