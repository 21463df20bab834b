"""How well APIs are found for what people ask: BM25, word vectors of the documents, and those trained on queries.

The documents are those of all APIs of ToolBench's test queries (`--data FOLDER` with its test_*.jsonl), the queries are
theirs, each with the APIs that it needs. In each of `--folds` parts the others are learned from. Parts are drawn three
ways: by query (instructions that were not seen), by tool, and by category of the first API that a query needs (none of
its queries was learned from). Gains count all that a query needs. Intervals are 95% over queries.
"""

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import report
from retrieval import described

from ferrule.evaluate.metrics import student_interval
from ferrule.evaluate.ranking import ndcg, recall
from ferrule.tools.dense import dense, word_vectors
from ferrule.tools.encoder import train_vectors
from ferrule.tools.search import Document, Retrieve, bm25

Query = tuple[str, frozenset[str], Mapping[str, str]]
Found = tuple[frozenset[str], list[str]]
MEASURES: Mapping[str, Callable[[Sequence[str], frozenset[str]], float]] = {
    "ndcg@1": lambda ranked, needed: ndcg(ranked, needed, 1),
    "ndcg@5": lambda ranked, needed: ndcg(ranked, needed, 5),
    "recall@5": lambda ranked, needed: recall(ranked, needed, 5),
}
WAYS = ("query", "tool", "category")


def read(folder: Path) -> tuple[list[Document], list[Query]]:
    """Return the documents of all different APIs, and the queries with what each needs."""
    documents: dict[str, Document] = {}
    categories: dict[str, str] = {}
    rows = []
    for file in sorted(folder.glob("test_*.jsonl")):
        rows += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for api in row["api_list"]:
            key = f"{api['tool_name']}/{api['api_name']}"
            documents.setdefault(key, Document(key, "", described(api)))
            categories[api["tool_name"]] = api["category_name"]
    queries: list[Query] = []
    for place, row in enumerate(rows):
        pairs = [(tool, api) for tool, api in row["relevant APIs"] if f"{tool}/{api}" in documents]
        if pairs:
            tool = pairs[0][0]
            kinds = {"query": str(place), "tool": tool, "category": categories[tool]}
            queries.append((row["query"], frozenset(f"{tool}/{api}" for tool, api in pairs), kinds))
    return list(documents.values()), queries


def parts(queries: Sequence[Query], way: str, folds: int, seed: int) -> list[int]:
    """Return in which part each query is; those of one tool, or category, are in the same."""
    groups = sorted({kinds[way] for *_, kinds in queries})
    random.Random(f"{way}/{seed}").shuffle(groups)
    part = {group: place % folds for place, group in enumerate(groups)}
    return [part[kinds[way]] for *_, kinds in queries]


def searches(documents: Sequence[Document], learned: Sequence[Query], seed: int) -> dict[str, Retrieve]:
    """Return the three retrievals, the last one after it learned from queries."""
    needs = [(query, needed) for query, needed, _ in learned]
    words = word_vectors([document.text for document in documents] + [query for query, _ in needs])
    trained = train_vectors(needs, documents, start=words, seed=seed)
    return {"bm25": bm25(documents), "word vectors": dense(documents, words), "trained": dense(documents, trained)}


def main() -> None:
    """Measure all ways and parts, and the differences to BM25 query by query."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with test_*.jsonl of ToolBench")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--folds", type=int, default=5, help="default 5")
    parser.add_argument("--seed", type=int, default=100, help="of parts and training; default 100")
    options = parser.parse_args()
    documents, queries = read(options.data)
    figures: dict[str, Any] = {"documents": len(documents), "queries": len(queries), "folds": options.folds}
    for way in WAYS:
        part, found = (
            parts(queries, way, options.folds, options.seed),
            dict[str, list[tuple[frozenset[str], list[str]]]](),
        )
        for fold in range(options.folds):
            learned = [query for query, place in zip(queries, part, strict=True) if place != fold]
            asked = [query for query, place in zip(queries, part, strict=True) if place == fold]
            for name, retrieve in searches(documents, learned, options.seed).items():
                ranked = [(needed, [one.id for one, _ in retrieve(query, 5)]) for query, needed, _ in asked]
                found.setdefault(name, []).extend(ranked)
        figures[f"by {way}"] = compared(found)
    report("retrieval_quality", {**figures, "seed": options.seed}, options.json)


def compared(found: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    """Return the mean of every measure, and its difference to BM25 with an interval."""
    rows: dict[str, Any] = {}
    for measure, value in MEASURES.items():
        values = {name: [value(ranked, needed) for needed, ranked in each] for name, each in found.items()}
        for name, each in values.items():
            apart = [one - other for one, other in zip(each, values["bm25"], strict=True)]
            low, high = student_interval(apart)
            rows.setdefault(name, {})[measure] = {
                "mean": round(sum(each) / len(each), 4),
                "minus bm25": [round(x, 4) for x in (sum(apart) / len(apart), low, high)],
            }
    return rows


if __name__ == "__main__":
    main()
