"""Generated pages are up to date, links lead somewhere, and every public name is documented."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import ferrule
from ferrule import papers
from ferrule.evaluate.queue import append
from ferrule.studies.measure import jobs_of

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("papers_table", ROOT / "scripts" / "papers_table.py")
assert SPEC
assert SPEC.loader
papers_table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(papers_table)

CLAIM = {
    "paper": "otc",
    "statement": "Fewer calls.",
    "measured": "fall of calls",
    "arms": {"grpo": {"calls": [2.0, 3.0, 4.0]}, "otc": {"calls": [1.0, 1.5, float("inf")]}},
    "effect": 0.5,
    "interval": [0.25, 0.75],
    "threshold": 0.4,
    "falsifier": "Calls | stay.",
    "verdict": "undecided",
    "seeds": [100, 101, 102],
    "size": "small",
    "notes": ["a | b"],
}


def test_papers_are_up_to_date() -> None:
    assert papers_table.main(["--check"]) == 0, "run: python scripts/papers_table.py"


def test_stale_pages_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(papers_table, "ROOT", tmp_path)
    wanted = {Path("docs/papers.md"): b"table", Path("docs/claims/otc.md"): b"page"}
    monkeypatch.setattr(papers_table, "pages", lambda: wanted)
    assert papers_table.main(["--check"]) == 1
    assert papers_table.main([]) == 0
    assert papers_table.main(["--check"]) == 0
    (tmp_path / "docs/claims/gone.md").write_text("a paper that was removed")
    assert papers_table.main(["--check"]) == 1
    assert "gone.md is not up to date" in capsys.readouterr().err
    assert papers_table.main([]) == 0
    assert not (tmp_path / "docs/claims/gone.md").exists()


def row_of(contents: Mapping[Path, bytes]) -> list[str]:
    """Return the cells of the row of OTC, of each what the paper's first claim says."""
    table = contents[Path("docs/papers.md")].decode()
    (row,) = [line for line in table.splitlines() if line.startswith("| 06 |")]
    return [entry.split("<br>")[0].strip() for entry in row.split("|")[2:-1]]


def test_a_claim_becomes_a_page_and_a_row(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims/otc.json").write_text(json.dumps(CLAIM))
    (tmp_path / "claims/otc.png").write_bytes(b"picture")
    contents = papers_table.pages(tmp_path)
    page = contents[Path("docs/claims/otc.md")].decode()
    assert "](../../claims/otc.png)" in page
    assert not [path for path in contents if path.suffix == ".png"]  # the site takes them from claims/
    assert "Fall of calls: 0.5, 95% interval [0.25, 0.75]; the threshold is 0.4" in page
    assert "| arm | calls |" in page
    assert "| grpo | 3 (2 to 4) |" in page
    assert "| otc | inf (1 to inf) |" in page
    wide = {**CLAIM, "arms": {"base": {name: [1000.0, 12345.6] for name in ("a", "b", "c|d")}}}
    (tmp_path / "claims/otc.json").write_text(json.dumps(wide))
    turned = papers_table.pages(tmp_path)[Path("docs/claims/otc.md")].decode()
    assert "| measured | base |" in turned
    assert "| c\\|d | 6,673 (1,000 to 12,346) |" in turned
    table = contents[Path("docs/papers.md")].decode()
    assert row_of(contents)[3:] == ["[undecided](claims/otc.md)", "", "0.5 [0.25, 0.75]"]
    rows = [line for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [8] * len(rows)


def test_grade_and_what_was_trained_are_shown(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims/otc.json").write_text(json.dumps({**CLAIM, "grade": "B", "trained": "a table"}))
    contents = papers_table.pages(tmp_path)
    page = contents[Path("docs/claims/otc.md")].decode()
    assert "Grade B: learning on a stand-in" in page
    assert "**Trained.** A table." in page
    assert row_of(contents)[3:] == ["[undecided](claims/otc.md)", "B", "0.5 [0.25, 0.75]"]


def test_a_stale_claim_says_so(tmp_path: Path) -> None:
    """Units measured with today's goldens keep a claim fresh; another golden of one arm makes that arm stale."""
    folder = tmp_path / "claims"
    (folder / "goldens").mkdir(parents=True)
    goldens = json.loads((ROOT / "claims/goldens/otc.json").read_text())
    (folder / "goldens/otc.json").write_text(json.dumps(goldens))
    (folder / "otc.json").write_text(json.dumps(CLAIM))
    for job in jobs_of(papers.study("otc"), papers.measure, folder, seeds=CLAIM["seeds"]).values():
        append(job, {}, 0.0)
    assert "tale" not in papers_table.pages(tmp_path)[Path("docs/claims/otc.md")].decode()
    goldens["arms"]["otc_narrow"] = {"otc_narrow": {"calls": 1.0}}
    (folder / "goldens/otc.json").write_text(json.dumps(goldens))
    contents = papers_table.pages(tmp_path)
    assert "since they were measured: otc narrow." in contents[Path("docs/claims/otc.md")].decode()
    assert row_of(contents)[3] == "[undecided](claims/otc.md), stale"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links and pictures exist; pages of the reference are made when the site is built."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://|#|mailto:", target):
            continue
        where = (page.parent / target.split("#")[0]).resolve()
        generated = where.is_relative_to(ROOT / "docs/reference") and (ROOT / "src/ferrule" / where.stem).is_dir()
        assert where.exists() or generated, f"{page.name} links to {target}"


def public_modules() -> Iterator[str]:
    """Yield the names of all modules of the package without a leading underscore."""
    for entry in pkgutil.walk_packages(ferrule.__path__, "ferrule."):
        if not any(part.startswith("_") for part in entry.name.split(".")):
            yield entry.name


def undocumented(name: str, thing: Any) -> Iterator[str]:
    """Yield what lacks a docstring: the thing itself, and the public methods and properties of a class."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return
    if not inspect.getdoc(thing) or (inspect.isclass(thing) and not vars(thing).get("__doc__")):
        yield name
    if inspect.isclass(thing):
        stored = getattr(thing, "__dataclass_fields__", {})  # a function may be the default of a field
        for key, value in vars(thing).items():
            inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if (
                not key.startswith("_")
                and key not in stored
                and inspect.isfunction(inner)
                and not inspect.getdoc(getattr(thing, key))
            ):
                yield f"{name}.{key}"


@pytest.mark.parametrize("name", list(public_modules()))
def test_public_names_are_documented(name: str) -> None:
    """Every module says what it is and lists its public names; each of them exists and says what it does."""
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    path = Path(str(module.__file__))
    if path.name == "__init__.py" and not hasattr(module, "__all__"):
        assert not [key for key, value in vars(module).items() if getattr(value, "__module__", None) == name]
        return
    missing = [key for key in module.__all__ if not hasattr(module, key)]
    assert not missing, f"{name}.__all__ lists {missing}"
    defined = [key for key in module.__all__ if getattr(getattr(module, key), "__module__", name) == name]
    lacking = [thing for key in defined for thing in undocumented(f"{name}.{key}", getattr(module, key))]
    assert not lacking, f"without a docstring: {', '.join(lacking)}"
