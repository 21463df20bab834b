"""Calculator, search and SQL."""

from __future__ import annotations

import json
import math
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.limits import LATE

from ferrule.core.records import Call, Observation, Tool
from ferrule.tools.bm25 import BM25
from ferrule.tools.calculator import calculate, calculator
from ferrule.tools.invoke import invoke
from ferrule.tools.search import Document, read_corpus, search_tool
from ferrule.tools.sql import sql_tool


def compute(expression: str) -> Observation:
    return invoke(calculator, Call("calculator", {"expression": expression}))


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("6 / 3", "2"),
        ("1 / 3", "0.3333333333"),
        ("0.1 + 0.2", "0.3"),
        ("2 ** 100", str(2**100)),
        ("2 ** -1", "0.5"),
        ("--3", "3"),
        ("sqrt(16)", "4"),
        ("sqrt(2)", "1.414213562"),
        ("max(1, min(5, 3), 2)", "3"),
        ("abs(-2.5)", "2.5"),
        ("round(2.675, 1)", "2.7"),
        ("1e3", "1000"),
        ("(10**20 * 3) / 10**20", "3"),
    ],
)
def test_calculator_values(expression: str, text: str) -> None:
    seen = compute(expression)
    assert (seen.status, seen.text) == ("ok", text)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1 / 0", "division by zero"),
        ("9**9**9", "too large"),
        ("2**99999999999", "too large"),
        ("(10**1000) * (10**1000)", "too large"),
        ("1e308 * 10", "not a finite"),
        ("(-8) ** 0.5", "not a real"),
        ("sqrt(-1)", "not real"),
        ("2 ^ 3", "write ** for powers"),
        ("__import__('os')", "no function '__import__'"),
        ("x + 1", "is not a number"),
        ("'a' * 10**9", "is not a number"),
        ("round(1, 10**9)", "between -1000 and 1000"),
        ("1 +", "is not an arithmetic expression"),
        ("(" * 900 + "1" + ")" * 900, "nested too deeply|not an arithmetic"),
        ("1" * 3000, "the most is 2000"),
        ("min()", "at least one number"),
    ],
)
def test_calculator_refuses_quickly(expression: str, reason: str) -> None:
    start = time.process_time()
    seen = compute(expression)
    assert seen.status == "error"
    assert any(part in seen.text for part in reason.split("|")), seen.text
    assert time.process_time() - start < 1


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789+-*/%().,e sqrtabminxoud", max_size=30))
def test_calculator_raises_nothing_but_value_errors(expression: str) -> None:
    try:
        value = calculate(expression)
    except ValueError:
        return
    assert type(value) in (int, float)
    assert math.isfinite(value)


DOCUMENTS = [
    Document("0", "Cats", "the cat sat on the mat"),
    Document("1", "Dogs", "the dog chased the cat and the cat ran"),
    Document("2", "Sea", "waves and salt"),
]


def test_bm25_equals_the_formula_and_the_package() -> None:
    corpus = [["a", "b"], ["a", "a", "c", "c"]]
    # Mean length 3. "a" is in both: idf = ln(1 + 0.5 / 2.5) = ln 1.2. First: tf 1, norm 1.125 =
    # 1.5 * (0.25 + 0.75 * 2 / 3), so 1 / 2.125; second: tf 2, norm 1.5 * (0.25 + 0.75 * 4 / 3) = 1.875, so 2 / 3.875.
    expected = [math.log(1.2) / 2.125, math.log(1.2) * 2 / 3.875]
    np.testing.assert_allclose(BM25(corpus).scores(["a"]), expected, rtol=1e-12)
    package = bm25s.BM25(k1=1.5, b=0.75, method="lucene", dtype="float64")
    package.index(corpus, show_progress=False)
    np.testing.assert_allclose(package.get_scores(["a"]), expected, rtol=1e-12)
    np.testing.assert_array_equal(BM25(corpus).scores(["zzz"]), [0, 0])


def test_the_best_documents_are_those_of_the_scores_in_their_order() -> None:
    """Frequent and rare words, repeated ones in the query, equal scores, and more asked for than there are."""
    rng = random.Random(0)
    corpus = [[rng.choice("aaaabbcdefgh") for _ in range(rng.randint(0, 6))] for _ in range(200)]
    index = BM25(corpus)
    for _ in range(50):
        words = [rng.choice("abcdefgz") for _ in range(rng.randint(0, 6))]
        scores = index.scores(words)
        plain = np.zeros(len(corpus))
        for word in words:  # one word alone is added the same way, whether it is frequent or not
            plain += index.scores([word])
        np.testing.assert_array_equal(scores, plain)
        order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > 0]
        for k in (1, 3, 500):
            assert index.best(words, k) == [(i, scores[i]) for i in order[:k]]
    assert BM25([]).best(["a"], 3) == BM25([[], []]).best(["a"], 3) == index.best(["a"], 0) == []


def test_search_ranks_cuts_and_reports() -> None:
    seen = invoke(search_tool(DOCUMENTS, k=2), Call("search", {"query": "cat dog"}))
    assert [row["id"] for row in seen.data] == ["1", "0"]
    assert seen.text.startswith("[1] Dogs\nthe dog chased")
    assert invoke(search_tool(DOCUMENTS), Call("search", {"query": "zebra"})).text == "no document contains these words"
    long = Document("9", "Long", "Nothing here. " * 50 + "The treasure lies under the oak. " + "More. " * 50)
    found = invoke(search_tool([long], snippet=40), Call("search", {"query": "treasure oak"})).text
    assert "The treasure lies under the oak." in found
    assert "characters left out" in found
    with pytest.raises(ValueError, match="k is 0"):
        search_tool(DOCUMENTS, k=0)


def test_search_takes_any_retrieval() -> None:
    """Negative scores are results of a retrieval that ranks by a distance; more than k are cut."""

    def nearest(query: str, k: int) -> list[tuple[Document, float]]:
        asked.append((query, k))
        return [(document, -float(i)) for i, document in enumerate(reversed(DOCUMENTS))] if query == "pets" else []

    asked: list[tuple[str, int]] = []
    seen = invoke(search_tool(nearest, k=2), Call("search", {"query": "pets"}))
    assert asked == [("pets", 2)]
    assert [(row["id"], row["score"]) for row in seen.data] == [(DOCUMENTS[-1].id, 0.0), (DOCUMENTS[-2].id, -1.0)]
    assert seen.text.startswith(f"[1] {DOCUMENTS[-1].title}\n")
    nothing = invoke(search_tool(nearest), Call("search", {"query": "cars"}))
    assert (nothing.text, nothing.data, nothing.status) == ("nothing fits this query", [], "ok")


def test_corpora_from_folders_and_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha", encoding="utf-8")
    (tmp_path / "b.bin").write_text("beta", encoding="utf-8")
    assert [document.title for document in read_corpus(tmp_path)] == ["a"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"name": "N", "body": "gamma"}) + "\n", encoding="utf-8")
    assert read_corpus(rows, title="name", text="body") == [Document("1", "N", "gamma")]
    with pytest.raises(ValueError, match=r"line 1: no text in the field 'text' \(found: name, body\)"):
        read_corpus(rows)
    with pytest.raises(FileNotFoundError, match="no corpus"):
        read_corpus(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no documents"):
        read_corpus(tmp_path / "empty")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop #1.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE item (id INTEGER, name TEXT, price REAL, picture BLOB)")
        connection.executemany("INSERT INTO item VALUES (?, ?, ?, ?)", [(1, "pen", 1.5, b"\x01"), (2, None, 3, None)])
    return path


def ask(tool: Tool, query: str) -> Observation:
    return invoke(tool, Call("sql", {"query": query}))


def test_sql_reads(database: Path) -> None:
    made = sql_tool(database)
    assert "item(id INTEGER, name TEXT, price REAL, picture BLOB)" in made.description
    seen = ask(made, "SELECT * FROM item ORDER BY id")
    assert seen.text == "id | name | price | picture\n1 | pen | 1.5 | x'01'\n2 | NULL | 3.0 | NULL"
    assert seen.data["rows"][0] == [1, "pen", 1.5, "01"]
    assert ask(made, "PRAGMA table_info(item)").status == "ok"
    assert ask(made, "SELECT count(*), upper('x') FROM item").text.endswith("2 | X")
    capped = ask(sql_tool(database, rows=1), "SELECT id FROM item")
    assert capped.text == "id\n1\n[... more than 1 rows; add LIMIT or a narrower condition ...]"


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO item VALUES (3, 'x', 1, NULL)",
        "UPDATE item SET price = 0",
        "DELETE FROM item",
        "DROP TABLE item",
        "CREATE TABLE t (a)",
        "ATTACH DATABASE '/tmp/x.db' AS x",
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "VACUUM INTO '/tmp/copy.db'",
        "SELECT load_extension('x')",
        "BEGIN",
    ],
)
def test_sql_refuses_everything_but_reading(database: Path, query: str) -> None:
    before = database.read_bytes()
    assert ask(sql_tool(database), query).status == "refused"
    assert database.read_bytes() == before


def test_sql_errors_limits_and_bad_files(database: Path, tmp_path: Path) -> None:
    made = sql_tool(database, seconds=0.3)
    assert "no such table" in ask(made, "SELECT * FROM items").text
    assert ask(made, "SELECT 1; SELECT 2").status == "error"
    assert ask(made, "SELECT zeroblob(1000000000)").status == "error"
    start = time.monotonic()
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
    assert ask(made, endless).status == "timeout"
    assert time.monotonic() - start < 0.3 + LATE
    with pytest.raises(FileNotFoundError, match="no database"):
        sql_tool(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("not a database " * 100, encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read as an SQLite database"):
        sql_tool(tmp_path / "text.db")
