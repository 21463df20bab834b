"""Tool retrieval over 47,000 API documents: time to build an index, memory that it takes, and time of a query.

The documents are made from real ones, the API documents of ToolBench's test queries (`--data FOLDER` with its
test_*.jsonl), each copy with every fifth word drawn anew; the queries are theirs. Contenders take turns, each in a
process of its own, round after round with other queries: `search` is the tool as an agent calls it, in a running
episode, and `tools` the search over as many tools, in which those that are found arrive and can be called. Packages
that are not installed are left out and named (`pip install bm25s tantivy scikit-learn`).
"""

import argparse
import importlib.util
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import report, spread
from contenders import Child, answer, quiet_output

Texts = Sequence[str]
Query = Callable[[str], int]
Times = dict[str, list[float]]
Ask = Callable[[Texts], Times]
K = 5
PACKAGES = {"bm25s": "bm25s", "tantivy": "tantivy", "scikit-learn tf-idf": "sklearn"}
OWN = (
    "ferrule bm25", "ferrule search", "ferrule tools", "ferrule dense", "ferrule dense search", "ferrule dense tools",
)  # fmt: skip


def read(folder: Path) -> tuple[list[str], list[str]]:
    """Return the texts of all different APIs, and the queries."""
    apis: dict[tuple[str, str], str] = {}
    queries = []
    for file in sorted(folder.glob("test_*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            queries.append(row["query"])
            for api in row["api_list"]:
                apis[api["tool_name"], api["api_name"]] = described(api)
    return list(apis.values()), queries


def described(api: Mapping[str, Any]) -> str:
    """Return what is read of an API's document: its names, its description, and what its parameters say."""
    fields = [api[name] for name in ("category_name", "tool_name", "api_name", "api_description")]
    for entry in (*api["required_parameters"], *api["optional_parameters"]):
        fields += [entry["name"], entry["description"]]
    return " ".join(str(field) for field in fields if field)


def many(real: Texts, count: int) -> list[str]:
    """Return ``count`` texts: the real ones, and copies with every fifth word drawn anew from all words."""
    rng, texts = random.Random(0), list(real)
    words = [text.split() for text in real]
    every = [word for row in words for word in row]
    while len(texts) < count:
        texts.append(" ".join(rng.choice(every) if rng.random() < 0.2 else word for word in rng.choice(words)))
    return texts[:count]


def timed(query: Query, asked: Texts) -> Times:
    """Ask every query and return the milliseconds of each."""
    clock, processor = [], []
    for text in asked:
        began, took = time.perf_counter(), time.process_time()
        assert query(text) == K
        processor.append(1000 * (time.process_time() - took))
        clock.append(1000 * (time.perf_counter() - began))
    return {"query ms": clock, "query processor ms": processor}


def timed_episode(search: Any, asked: Texts, arrives: bool = False) -> Times:
    """Ask every query as an agent does: a call of a search tool in a running episode, carried out by the driver."""
    from ferrule.core.flows import use
    from ferrule.core.records import Call, Task
    from ferrule.rollout.drive import Limits, drive
    from ferrule.worlds.growing import Growing
    from ferrule.worlds.session import Toolbox
    from ferrule.worlds.wrap import Wrapped

    times: Times = {"query ms": [], "query processor ms": []}

    def agent(task: Any, session: Any) -> Any:
        for text in asked:
            began, took = time.perf_counter(), time.process_time()
            (seen,) = yield from use(Call(search.name, {"query": text}))
            assert len(seen.data["arrived"] if arrives else seen.data) == K
            times["query processor ms"].append(1000 * (time.process_time() - took))
            times["query ms"].append(1000 * (time.perf_counter() - began))
        return ""

    world = Wrapped(Toolbox((search,), calls=len(asked)), lambda session, task, seed: Growing(session))
    (episode,) = drive(agent, [Task("t", "?")], world, {}, limits=Limits(turns=len(asked) + 1))
    assert not episode.problem, episode.problem
    return times


def own(name: str, texts: Texts) -> Ask:
    """Build one of ours."""
    from ferrule.core.records import Tool
    from ferrule.tools.catalogue import document_of, finder
    from ferrule.tools.dense import dense, word_vectors
    from ferrule.tools.search import Document, bm25, search_tool

    nothing = {"type": "object", "properties": {}}
    tools = [
        Tool(f"api_{place}", text, nothing, run=str) for place, text in enumerate(texts if "tools" in name else ())
    ]
    documents = [document_of(tool) for tool in tools] or [Document(str(i), "", text) for i, text in enumerate(texts)]
    retrieve = dense(documents, word_vectors(texts)) if "dense" in name else bm25(documents)
    if tools:
        return partial(timed_episode, finder(tools, retrieve=retrieve, k=K), arrives=True)
    if "search" in name:
        return partial(timed_episode, search_tool(retrieve, k=K))
    return lambda asked: timed(lambda query: len(retrieve(query, K)), asked)


def bm25s_index(texts: Texts) -> Query:
    """Build an index of bm25s, which splits texts into words itself."""
    import bm25s

    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    index.index(bm25s.tokenize(list(texts), stopwords=[], show_progress=False), show_progress=False)

    def ask(query: str) -> int:
        words = bm25s.tokenize([query], stopwords=[], show_progress=False, return_ids=False)
        return int(index.retrieve(words, k=K, show_progress=False)[0].shape[1])

    return ask


def tantivy_index(texts: Texts) -> Query:
    """Build an index of tantivy in a folder that is deleted afterwards."""
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", stored=False)
    folder = tempfile.TemporaryDirectory()
    index = tantivy.Index(schema.build(), path=folder.name)
    writer = index.writer(heap_size=64_000_000, num_threads=1)
    for text in texts:
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def ask(query: str, folder: Any = folder) -> int:
        parsed = index.parse_query(" ".join(re.findall(r"\w+", query.lower())), ["text"])
        return len(searcher.search(parsed, K, count=False).hits)

    return ask


def sklearn_index(texts: Texts) -> Query:
    """Build a matrix of TF-IDF by scikit-learn."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True)
    matrix = vectorizer.fit_transform(texts).T.tocsr()

    def ask(query: str) -> int:
        scores = (vectorizer.transform([query]) @ matrix).toarray()[0]
        return len(np.argpartition(scores, len(scores) - K)[-K:])

    return ask


BUILD: dict[str, Callable[[Texts], Query]] = {
    "bm25s": bm25s_index, "tantivy": tantivy_index, "scikit-learn tf-idf": sklearn_index,
}  # fmt: skip


def peer(build: Callable[[Texts], Query], texts: Texts) -> Ask:
    """Build one of the others."""
    return partial(timed, build(texts))


def resident() -> float:
    """Return the memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def child(out: Any, name: str, folder: Path, count: int) -> None:
    """Build one index and answer queries."""
    real, queries = read(folder)
    texts = many(real, count)
    make = partial(own, name) if name in OWN else partial(peer, BUILD[name])
    make(texts[:2000])(queries[:1])  # what is imported or compiled is neither time nor memory of the index
    before, began, took = resident(), time.perf_counter(), time.process_time()
    ask = make(texts)
    built = {
        "build seconds": time.perf_counter() - began, "build processor seconds": time.process_time() - took,
        "index MiB": resident() - before,
    }  # fmt: skip

    def queried(first: int, many: int) -> Times:
        return ask([queries[place % len(queries)] for place in range(first, first + many)])

    answer(out, {"built": lambda: built, "queries": queried})


def main() -> None:
    """Measure everybody in turn, ``--rounds`` times ``--queries`` queries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with test_*.jsonl of ToolBench")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    for name, default in (("documents", 47_000), ("rounds", 5), ("queries", 100), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args()
    if options.child:
        child(quiet_output(), options.child, options.data, options.documents)
        return
    there = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
    flags = ["--data", str(options.data), "--documents", str(options.documents)]
    children = {name: Child(sys.executable, __file__, name, options.threads, *flags) for name in (*OWN, *there)}
    rows: dict[str, dict[str, list[float]]] = {
        name: {what: [value] for what, value in one.ask("built").items()} for name, one in children.items()
    }
    for turn in range(options.rounds + 1):
        for name, one in children.items():
            took = one.ask("queries", first=turn * options.queries, many=options.queries)
            for what, values in took.items():
                rows[name].setdefault(what, []).extend(values if turn else [])  # the first round warms up
        print(json.dumps({"round": turn, "load": os.getloadavg()[0]}), file=sys.stderr, flush=True)
    for one in children.values():
        one.close()
    missing = [name for name in PACKAGES if name not in there]
    figures = {"rows": {name: {what: spread(values) for what, values in row.items()} for name, row in rows.items()}}
    about = {"documents": options.documents, "k": K, "threads": options.threads, "not installed": missing}
    report("retrieval", {**figures, **about}, options.json)


if __name__ == "__main__":
    main()
