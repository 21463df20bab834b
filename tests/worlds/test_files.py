from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.worlds.files import hub_name, read, read_file
from ferrule.worlds.lines import csv_rows, decoded, json_rows

ROWS = [{"prompt": "1+1", "answer": "2"}, {"prompt": 'é "quoted", and\nbroken', "answer": "x\u2028y"}]


def as_csv(rows: list[dict[str, str]], mark: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=mark)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FORMS = {
    "a.jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
    "a.ndjson": "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(),
    "b.json": json.dumps(ROWS, indent=1).encode(),
    "lines.json": "\n".join(json.dumps(row) for row in ROWS).encode(),
    "one.json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
    "c.csv": as_csv(ROWS).encode(),
    "d.csv": as_csv(ROWS, ";").encode().replace(b"prompt;answer", b"prompt;answer"),
    "e.tsv": as_csv(ROWS, "\t").encode(),
    "f.parquet": as_parquet(ROWS),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(name: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(FORMS[name]) if packed else FORMS[name])
    table = read(path)["all"]
    assert [row for _, row in table.rows] == ROWS
    assert table.columns == ("prompt", "answer")
    assert all(where.startswith(str(path)) for where, _ in table.rows)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(encoding))
    assert [row for _, row in read_file(path).rows] == ROWS


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": "caf\xe9"}\n',
            r"a.jsonl, line 2: byte 0xe9 is not UTF-8; save the file as UTF-8",
        ),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), "a.jsonl, line 1: a null byte, as in UTF-16 without its mark"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": NaN}', r"a.jsonl, line 3: not JSON \(NaN is not a JSON number\)"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\\ud800"}', r"a.jsonl, line 2: \\ud800 is half a character"),
        ("a.json", b'[{"a": 1},\n\n 2]', "a.json, line 3: a row must be a JSON object, not int"),
        ("a.json", b'[{"a": 1},\n {"a": 2}\n {"a": 3}]', "a.json, line 2: after the row that begins here"),
        ("a.json", b'[{"a": 1},\n {"a": }]', "a.json, line 2: not JSON"),
        ("a.json", b'[{"a": 1}] x', "a.json: something stands after the list"),
        ("a.json", b'[{"a": 1}', "a.json, line 1: after the row that begins here"),
        ("a.json", b'{\n"a": [1], "b": [2]}', "a.json: one JSON object with 2 lists in it"),
        ("a.csv", b'a,b\n1,"2\n3"\n4\n', r"a.csv, line 4: 1 cells for 2 columns \(a, b\)"),
        ("a.csv", b'a,b\n1,"2\n', "a.csv, line 2: not CSV"),
        ("a.csv", b"a,a\n1,2\n", "a.csv, line 1: columns need names, each a different one: 'a', 'a'"),
        ("a.jsonl.gz", b"not packed", "a.jsonl.gz: it cannot be unpacked"),
        ("a.parquet", b"not parquet", "a.parquet: it is not a parquet file"),
        ("a.jsnl", b"", r"\.jsnl is not an ending that is read; did you mean '\.jsonl'\?"),
    ],
)
def test_what_cannot_be_read_is_told_with_file_and_line(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text("abc", min_size=1, max_size=3), VALUES, max_size=3), max_size=4)


@given(OBJECTS, st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=60, deadline=None)
def test_rows_are_the_same_as_lines_and_as_a_list(rows: Any, plain: bool, encoding: str, mark: str) -> None:
    written = [json.dumps(row, ensure_ascii=plain) for row in rows]
    lines = decoded(mark.join(written).encode(encoding), "f").replace("\0", "")
    listed = decoded(("[" + f",{mark} ".join(written) + "]").encode(encoding), "f")
    assert [row for _, row in json_rows(lines, "f")] == rows
    assert list(json_rows(listed, "f")) == [(f"f, line {i}", row) for i, row in enumerate(rows, start=1)]


@given(st.lists(st.tuples(*[st.text("ab,;\"'\n\r é", max_size=6)] * 2), max_size=4))
@settings(max_examples=60, deadline=None)
def test_cells_come_back_as_the_csv_module_wrote_them(cells: list[tuple[str, str]]) -> None:
    rows = [{"one": a, "two": b} for a, b in cells]
    text = as_csv(rows) if rows else "one,two\r\n"
    wanted = [{name: cell or None for name, cell in row.items()} for row in rows]
    assert [row for _, row in csv_rows(text, "f")] == wanted


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_rows_may_stand_in_an_object(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}, indent=indent))
    assert [row for _, row in read_file(path).rows] == ROWS


def test_folders_are_read_by_the_splits_in_their_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00002.parquet").write_bytes(as_parquet(ROWS[:1]))
    (tmp_path / "data" / "train-00001-of-00002.parquet").write_bytes(as_parquet(ROWS[1:]))
    (tmp_path / "validation.csv").write_text(as_csv(ROWS[:1]))
    (tmp_path / "training_notes.json").write_text("[]")
    tables = read(tmp_path)
    assert {split: [row for _, row in table.rows] for split, table in tables.items()} == {
        "train": ROWS,
        "test": ROWS[:1],
    }
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds neither train\.jsonl nor test\.jsonl"):
        read(tmp_path / "empty")


def test_stored_data_sets_are_read_row_by_row(tmp_path: Path) -> None:
    import datasets

    part = datasets.Dataset.from_list(ROWS)
    part.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": part, "validation": part.select([1])}).save_to_disk(str(tmp_path / "two"))
    table = read(tmp_path / "one")["all"]
    assert list(table.rows) == [(f"{tmp_path / 'one'} (all), row {i}", row) for i, row in enumerate(ROWS)]
    assert table.rows[-1][1] == ROWS[1]
    assert {split: len(part.rows) for split, part in read(tmp_path / "two").items()} == {"train": 2, "test": 1}


def test_a_name_of_the_hub_is_told_from_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [hub_name(name) for name in ("trl-lib/zen", "openai/gsm8k:main")] == [True, True]
    assert [hub_name(name) for name in ("rows.jsonl", "data/rows.jsonl.gz", "/data/rows", "a/b/c", "gsm8k")] == [
        False
    ] * 5
    with pytest.raises(FileNotFoundError, match=r"no file and no folder .data/rows\.jsonl."):
        read("data/rows.jsonl")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file and no folder 'mine/rows'"):
        read("mine/rows")
