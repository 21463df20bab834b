"""The ``search`` tool: BM25 over a folder of text files, a JSONL file or a list of documents, or another retrieval."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ferrule.core.clip import clip
from ferrule.core.records import Observation, Tool
from ferrule.tools.bm25 import BM25
from ferrule.tools.tool import tool

__all__ = ["Document", "Retrieve", "bm25", "read_corpus", "search_tool"]

_SUFFIXES = (".txt", ".md", ".rst")


@dataclass(frozen=True)
class Document:
    """One text that can be retrieved, with its title and its source."""

    id: str
    title: str
    text: str


Retrieve: TypeAlias = Callable[[str, int], "Sequence[tuple[Document, float]]"]
"""``retrieve(query, k)`` returns at most ``k`` documents with their scores, the best first."""


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
    index = BM25([_words(f"{document.title} {document.text}") for document in documents])

    def retrieve(query: str, k: int) -> list[tuple[Document, float]]:
        return [(documents[place], score) for place, score in index.best(_words(query), k)]

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
