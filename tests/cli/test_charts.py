"""``ferrule charts``: a page of charts and hints for a table, picks, a person at the terminal, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ferrule.cli import main

ROWS = [("Rome", "2024-01-05", 4), ("Oslo", "2024-02-05", 6), ("Lima", "2024-03-05", 9), ("Rome", "2024-05-01", 2)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = ["city,day,delay", *(f"{city},{day},{delay}" for city, day, delay in ROWS)]
    Path("my trips.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def ran(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["charts", *arguments], input=stdin)


def test_a_page_of_charts_and_hints(folder: Path) -> None:
    """By rules alone: the page and the lines have the same charts, and a pick bounds all of them."""
    result = ran("my trips.csv", "--ranker", "0", "--top", "3")
    assert result.exit_code == 0, result.output
    page = Path("my trips-charts.html").read_text()
    first = result.stdout.splitlines()[0]
    assert first.startswith("1. ")
    assert first.partition(" (score")[0][3:] in page
    assert "ferrule charts &#39;my trips.csv&#39; --pick" in page
    assert page.count("<figure>") == 3
    result = ran(
        "my trips.csv", "--ranker", "0", "--pick", "x=city", "--pick", "mark=bar", "--json", "--output", "p.html"
    )
    data = json.loads(result.stdout)
    assert data["picks"] == ["x=city", "mark=bar"]
    assert {(row["x"], row["mark"]) for row in data["charts"]} == {("city", "bar")}
    assert Path(data["page"]).is_file()


def test_a_person_picks_at_the_terminal(folder: Path) -> None:
    result = ran("my trips.csv", "--ranker", "0", "--ask", "--json", stdin="1\n\n")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    hint = next(line for line in result.stderr.splitlines() if line.startswith("hint 1: "))
    assert data["picks"] == [hint.removeprefix("hint 1: ")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none.csv",), "no file 'none.csv'"),
        (("my trips.csv", "--pick", "x=citi"), "did you mean 'city'"),
        (("my trips.csv", "--pick", "marc=bar"), "did you mean 'mark'"),
        (("my trips.csv", "--ranker", "0", "--rules", "0"), "none may be below 0, and one must be above"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], told: str, folder: Path) -> None:
    result = ran(*arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())


def test_why_there_is_no_chart(folder: Path) -> None:
    Path("words.csv").write_text("a,b\nx,y\nx,y\n")
    assert "can be read: it has no column of numbers, and none of 2 to 40" in ran("words.csv", "--ranker", "0").output
    result = ran("my trips.csv", "--ranker", "0", "--pick", "mark=arc", "--pick", "aggregate=average")
    assert "can be read with these picks" in result.output
    assert "y is 'city', which is categorical" in ran("my trips.csv", "--pick", "y=city").output


def test_words_alone_are_counted(folder: Path) -> None:
    Path("words.csv").write_text("who,what\n" + "ann,tea\n" * 5 + "bob,tea\n" * 3 + "cy,milk\n")
    assert "bar: x = who, y = count, grouped by who" in ran("words.csv", "--ranker", "0").output
    result = ran("words.csv", "--ranker", "0", "--pick", "y=who", "--pick", "x=who")  # a hint may say so
    assert "1. bar: x = who, y = count" in result.output
