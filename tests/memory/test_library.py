"""Libraries: changes, versions, counts, search, caps, pruning, states; what other processes write; and kills."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ferrule.memory.embed import HashedWords
from ferrule.memory.entries import Change, Entry, Origin, Tally
from ferrule.memory.files import as_lines, as_page, from_lines
from ferrule.memory.library import Library
from ferrule.memory.store import Store
from ferrule.memory.vectors import Vectors


def texts(library: Library) -> dict[str, str]:
    return {entry.id: entry.text for entry in library.entries()}


def test_entries_are_added_changed_merged_deleted_and_retired() -> None:
    library = Library()
    one = library.add("read the docs", when="an unknown tool", origins=[Origin("t/1", 0, 2, "writer")])
    two = library.add("look at the docs first", origins=[Origin("t/2")])
    library.modify(one.id, text="read the description")
    assert (library["E1"].version, library["E1"].when) == (2, "an unknown tool")
    assert [version.text for version in library.versions("E1")] == ["read the docs", "read the description"]
    merged = library.merge([one.id, two.id], "read what a tool says of itself")
    assert merged.id == "E3"
    assert merged.merged == ("E1", "E2")
    assert merged.tasks == ("t/1", "t/2")
    assert merged.origins[0].turn == 2
    assert texts(library) == {"E3": "read what a tool says of itself"}
    assert [library[id].state for id in ("E1", "E2")] == ["deleted", "deleted"]
    library.retire("E3")
    assert len(library) == 0
    assert len(library.entries(every=True)) == 3
    library.restore("E3")
    library.delete("E3")
    assert library.add("the next one").id == "E4", "an id is never used again"
    kinds = [row["kind"] for row in library.store.log()]
    assert kinds == ["add", "add", "modify", "merge", "retire", "restore", "delete", "add"]


def test_changes_that_cannot_be_carried_out_are_refused_and_leave_no_trace() -> None:
    library = Library()
    library.add("one")
    library.delete("E1")
    with pytest.raises(KeyError, match="unknown entry 'E7'; known: E1"):
        library.modify("E7", text="x")
    with pytest.raises(ValueError, match="'E1' was deleted"):
        library.merge(["E1"], "x")
    with pytest.raises(ValueError, match="needs a text"):
        library.add("  ")
    with pytest.raises(ValueError, match="names 0 entries; it names 1"):
        Change("modify", text="x")
    with pytest.raises(ValueError, match="limit is 0"):
        Library(limit=0)
    assert [row["kind"] for row in library.store.log()] == ["add", "delete"]
    assert library.add("two").id == "E2", "a refused change takes no number"


def test_credit_is_the_score_minus_what_was_to_be_expected() -> None:
    """Means before each episode: none, 1 of t/1, then of t/2 all (1 + 0)/2; so 0 + (0 - 1) + (1 - 0.5)."""
    library = Library()
    library.add("a")
    library.add("b")
    library.credit("t/1", 1.0, ["E1"])
    library.credit("t/1", 0.0, ["E1", "E1"], ["E1"])
    library.credit("t/2", 1.0, ["E1", "E9"])
    assert library["E1"].tally == Tally(3, 1, -0.5)
    assert library["E1"].tally.worth == pytest.approx(-1 / 6)
    assert library["E2"].tally == Tally()
    assert library["E1"].version == 1


def test_the_nearest_entries_are_found_by_their_condition_and_text() -> None:
    library = Library()
    library.add("sort the rows before you join them", when="two tables")
    library.add("convert to kelvin", when="a temperature in celsius")
    library.add("a document", kind="skill")
    found = library.search("what is this temperature in kelvin?", 1)
    assert [entry.id for entry, _ in found] == ["E2"]
    assert 0.3 < found[0][1] < 1
    assert library.search("temperature", least=0.99) == []
    assert [e.id for e, _ in library.search("temperature tables", where=lambda e: e.id != "E2")] == ["E1"]
    library.retire("E2")
    assert [entry.id for entry, _ in library.search("kelvin", least=0.1)] == []
    assert Library().search("anything") == []


def test_an_encoder_can_be_given_and_equal_ones_keep_their_order() -> None:
    library = Library(encode=lambda texts: [[len(text), 1.0] for text in texts])
    for text in ("aaaa", "bb", "cccc"):
        library.add(text)
    assert [entry.id for entry, _ in library.search("dddd")] == ["E1", "E3", "E2"]


def test_texts_are_encoded_once_and_queries_are_not_kept() -> None:
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> list[list[float]]:
        asked.append(list(texts))
        return [[len(text), 1.0] for text in texts]

    vectors = Vectors(encode)
    np.testing.assert_allclose(
        vectors(["aaa", "", "aaa"]), [[0.9**0.5, 0.1**0.5], [0, 1], [0.9**0.5, 0.1**0.5]], rtol=1e-6
    )
    np.testing.assert_allclose(vectors.scores("", ["aaa", "b", ""]), [0.1**0.5, 0.5**0.5, 1], rtol=1e-6)
    for number in range(40):
        vectors(["x" * number])
    np.testing.assert_allclose(vectors.scores("", ["aaa"]), [0.1**0.5], rtol=1e-6)
    assert asked[:3] == [["aaa", ""], ["b"], [""]]
    assert sum(map(len, asked)) == 2 + 1 + 1 + 39 + 1, "the empty text of the loop is known"


def test_hashed_words_are_the_same_everywhere_and_ignore_order_a_little() -> None:
    encode = HashedWords()
    rows = encode(["Find the capital of France", "the capital of France: find it", "sum of 3 numbers", ""])
    assert rows.shape == (4, 1024)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 0], rtol=1e-6)
    assert rows[0] @ rows[1] > 0.7 > 0.2 > rows[0] @ rows[2]
    assert (
        np.flatnonzero(HashedWords(size=16)(["kelvin"])[0]).tolist()
        == np.flatnonzero(HashedWords(size=16)(["Kelvin!"])[0]).tolist()
    )
    with pytest.raises(ValueError, match=r"HashedWords\.size is 0"):
        HashedWords(size=0)


def test_a_full_library_retires_the_least_worthy_entry() -> None:
    library = Library(limit=2)
    library.add("helps")
    library.add("harms")
    library.credit("t", 0.5, [])
    library.credit("t", 1.0, ["E1"])
    library.credit("t", 0.0, ["E2"])
    library.add("new")
    assert set(texts(library)) == {"E1", "E3"}
    assert library.store.log()[-1]["note"] == "retired E2"
    library.add("a document", kind="skill")
    assert set(texts(library)) == {"E1", "E3", "E4"}, "each kind has the limit for itself"


def test_pruning_follows_worth_and_provenance_through_merges() -> None:
    library = Library()
    library.add("from a bad page", origins=[Origin("t/bad", writer="web")])
    library.add("fine", origins=[Origin("t/1", writer="writer")])
    library.add("fine too", origins=[Origin("t/2", writer="writer")])
    library.add("harmful", origins=[Origin("t/3", writer="writer")])
    library.merge(["E1", "E2"], "both")
    assert library.prune(task="t/bad") == ["E5"], "what the bad entry was merged into goes with it"
    library.credit("t/1", 1.0, [])
    library.credit("t/1", 0.0, ["E4"])
    assert library.prune(worth=-0.5, shown=2) == []
    assert library.prune(worth=-0.5) == ["E4"]
    library.restore("E4")
    assert library.prune(limit=1) == ["E4"]
    assert library.prune(writer="writer") == ["E3"]
    assert library.prune() == []


def test_a_state_is_put_back_and_others_notice(tmp_path: Path) -> None:
    path = tmp_path / "lib.sqlite"
    library, other = Library(path), Library(path)
    library.add("one")
    library.credit("t", 1.0, ["E1"])
    state = json.loads(json.dumps(library.state()))
    library.add("two")
    library.modify("E1", text="changed")
    assert texts(other) == {"E1": "changed", "E2": "two"}
    library.load(state)
    assert texts(library) == texts(other) == {"E1": "one"}
    assert other["E1"].tally == Tally(1, 0, 0.0)
    assert library.add("another two").id == "E2", "a run that goes on gives the numbers that it gave before"
    library.credit("t", 0.0, ["E2"])
    assert other["E2"].tally.credit == -1.0, "the results of tasks were put back as well"
    with pytest.raises(ValueError, match="a state of a library has"):
        library.load({})
    library.close()
    other.close()


def test_a_state_does_not_wipe_out_another_library(tmp_path: Path) -> None:
    library, other, fresh = (Library(tmp_path / name) for name in ("one", "other", "fresh"))
    library.add("one")
    state = library.state()
    library.add("two")
    other.add("something else")
    with pytest.raises(ValueError, match="is another library than the one of this state, and would be lost"):
        other.load(state)
    assert texts(other) == {"E1": "something else"}
    fresh.load(state)
    library.load(state)
    assert texts(fresh) == texts(library) == {"E1": "one"}
    fresh.load(library.state())


def test_two_connections_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "lib.sqlite"
    one, two = Library(path), Library(path)
    assert [one.add("a").id, two.add("b").id, one.add("c").id] == ["E1", "E2", "E3"]
    two.modify("E1", text="a2")
    assert one["E1"].text == "a2"
    assert two.search("c", 1)[0][0].id == "E3"
    copied = pickle.loads(pickle.dumps(one))
    assert texts(copied) == texts(one)
    with pytest.raises(ValueError, match="belongs to the process"):
        pickle.dumps(Library())
    for library in (one, two, copied):
        library.close()


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database " * 100)
    with pytest.raises(ValueError, match="no library of entries"):
        Store(tmp_path / "text")
    link = sqlite3.connect(tmp_path / "new")
    link.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
    link.execute("INSERT INTO facts VALUES ('format', 99)")
    link.commit()
    link.close()
    with pytest.raises(ValueError, match="another format"):
        Store(tmp_path / "new")


def test_entries_are_exported_and_read_back() -> None:
    library = Library()
    library.add("a\nb", when="c", labels=[("Formulation", "Variables")], origins=[Origin("t/1")], data={"x": (1, 2)})
    library.add("é")
    entries = library.entries()
    assert from_lines(as_lines(entries)) == entries
    assert "## E1 (experience, live)" in as_page(entries)
    assert "Formulation/Variables" in as_page(entries)
    assert library.taxonomy() == {"Formulation": {"Variables": {}}}
    with pytest.raises(ValueError, match="line 1 is no entry"):
        from_lines("{}")
    assert Entry("E12", "x").number == 12


KILLED = """
import os, random, signal, sys, time
from ferrule.memory.library import Library

path, kills = sys.argv[1], int(sys.argv[2])


def work(writer, pipe):
    library, mine = Library(path), []
    while True:
        mine.append(library.add(f"{writer} first").id)
        os.write(pipe, f"added {mine[-1]}\\n".encode())
        mine.append(library.add(f"{writer} second").id)
        os.write(pipe, f"added {mine[-1]}\\n".encode())
        library.credit("t", 1.0, mine[-2:])
        merged = library.merge(mine[-2:], f"{writer} both").id
        os.write(pipe, f"merged {merged} {mine[-2]} {mine[-1]}\\n".encode())


rng, told, pids = random.Random(0), [], []
for _ in range(kills):
    read, write = os.pipe()
    pids = []
    for writer in ("a", "b"):
        pid = os.fork()
        if not pid:
            work(writer, write)
        pids.append(pid)
    os.close(write)
    early, wanted = b"", rng.randrange(12)
    while early.count(b"\\n") < wanted:  # any machine gets as far as this, however busy it is
        early += os.read(read, 4096)
    time.sleep(rng.uniform(0.0, 0.005))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as lines:
        told += [line.split() for line in (early + lines.read()).decode().splitlines()]
print(*(" ".join(line) for line in told), sep="\\n")
"""


def test_nothing_acknowledged_is_lost_and_nothing_is_half_written_after_fifty_kills(tmp_path: Path) -> None:
    """Two processes write; both are killed (SIGKILL) at 50 random moments."""
    path = tmp_path / "lib.sqlite"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), "50"], capture_output=True, text=True, timeout=120, check=True
    )
    told = [line.split() for line in run.stdout.splitlines()]
    library = Library(path)
    entries = {entry.id: entry for entry in library.entries(every=True)}
    assert sum(line[0] == "merged" for line in told) > 20, "the writers must have got somewhere"
    for kind, id, *sources in told:
        assert id in entries
        if kind == "merged":
            assert entries[id].merged == tuple(sources)
            assert all(entries[source].state == "deleted" for source in sources)
    merged = [entry for entry in entries.values() if entry.merged]
    for entry in merged:
        assert all(entries[source].state == "deleted" for source in entry.merged)
        assert entry.tally.shown == sum(entries[source].tally.shown for source in entry.merged) == 2
    replaced = {source for entry in merged for source in entry.merged}
    assert {id for id, entry in entries.items() if entry.state == "deleted"} == replaced
    link = sqlite3.connect(path)
    assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert (
        link.execute("SELECT count(*) FROM entries").fetchone()
        == link.execute("SELECT value FROM facts WHERE name = 'numbers'").fetchone()
    ), "numbers without gaps: no transaction took one and wrote nothing"
    link.close()
    library.close()


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none/x\.sqlite cannot be opened as a library"):
        Library(tmp_path / "none" / "x.sqlite")


def test_a_file_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    link = sqlite3.connect(tmp_path / "shop.db")
    link.execute("CREATE TABLE orders (number INTEGER)")
    link.commit()
    link.close()
    before = (tmp_path / "shop.db").read_bytes()
    with pytest.raises(ValueError, match="no library of entries: it holds tables of something else"):
        Library(tmp_path / "shop.db")
    assert (tmp_path / "shop.db").read_bytes() == before
    link = sqlite3.connect(tmp_path / "half.db")
    link.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
    link.execute("INSERT INTO facts VALUES ('format', 1)")
    link.commit()
    link.close()
    with pytest.raises(ValueError, match="another format"):
        Library(tmp_path / "half.db")


def test_a_file_that_is_locked_or_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lib.sqlite"
    library = Library(path)
    for number in range(40):
        library.add(f"{number} " * 400)
    library.store._link.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OSError, match=r"the library .*lib.sqlite: database is locked"):
        library.add("x")
    other.execute("ROLLBACK")
    other.close()
    assert library.add("x").id == "E41"
    library.close()
    held = bytearray(path.read_bytes())
    held[3 * 4096 :: 5] = bytes(len(held[3 * 4096 :: 5]))
    path.write_bytes(held)
    with pytest.raises((OSError, ValueError), match=r"lib\.sqlite"):
        Library(path).entries()


def test_line_separators_in_a_text_are_read_back() -> None:
    library = Library()
    library.add("one\u2028two\x85three\x0cfour")
    library.add("five")
    assert from_lines(as_lines(library.entries())) == library.entries()


def test_an_entry_that_is_named_twice_is_merged_and_counted_once() -> None:
    library = Library()
    library.add("x")
    library.credit("t", 1.0, ["E1"])
    merged = library.merge(["E1", "E1"], "y")
    assert (merged.merged, merged.tally.shown) == (("E1",), 1)


@pytest.mark.parametrize("given", [{"limit": -1}, {"worth": 1.0, "shown": 0}, {"worth": float("nan")}])
def test_numbers_out_of_range_prune_nothing(given: dict[str, float]) -> None:
    library = Library()
    library.add("x")
    with pytest.raises(ValueError, match=r"the least is|not a number"):
        library.prune(**given)  # type: ignore[arg-type]
    assert len(library) == 1
