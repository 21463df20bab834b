"""The report page: what it says, that it needs nothing, and that no text of an episode gets out of its place."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import Message, Task, Trajectory, Turn
from ferrule.rollout.record import Episode, append
from ferrule.view import figures, report
from ferrule.view.report import write_report

from .conftest import HOSTILE

VOID = {"meta", "br", "hr", "img", "link", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects elements, attributes and text, and checks that every element is closed where it was opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report of the complete synthetic run, written once."""
    from .conftest import make_run

    path = write_report(make_run(tmp_path_factory.mktemp("runs") / "first-run"))
    return path, path.read_text(encoding="utf-8")


def test_it_says_what_happened(written: tuple[Path, str]) -> None:
    text = Page(written[1]).text
    assert "rose by 42.0 points, from 36.0% to 78.0% on 240 held‑out tasks; the 95% intervals lie apart" in text
    for said in ("with tools", "without tools", "level 5", "Tool calls per episode", "10 of 14 recorded episodes"):
        assert said in text
    for said in ("Before training", "After training", "failed", "solved", "malformed", "cut off at the token limit"):
        assert said in text
    assert "steps 90 training time 3 min 45 s" in text  # 90 steps of 2.5 s
    assert "61% of the groups have equal rewards" in text
    assert "step 70 and 2 more times" in text
    assert "learning_rate 0.0003" in text
    assert "torch 2.13.0" in text


def test_every_figure_lies_beside_it(written: tuple[Path, str]) -> None:
    path, html = written
    drawn = len(re.findall("<figure>", html))
    pictures = sorted((path.parent / "figures").glob("*.png"))
    assert len(pictures) == drawn >= 10
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_it_needs_nothing_from_elsewhere(written: tuple[Path, str]) -> None:
    for tag, attributes in Page(written[1]).elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), f"<{tag} {name}={value}>"
    style = re.search("<style>(.*?)</style>", written[1], re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "default-src 'none'" in written[1]


def test_hostile_text_stays_text(written: tuple[Path, str]) -> None:
    page = Page(written[1])
    assert page.open == []
    assert HOSTILE in "".join(page.words), "shown as it was written"
    assert "<script" not in written[1]
    assert "<img" not in written[1]


def test_hostile_text_everywhere(tmp_path: Path) -> None:
    """The same text in every place that a file can put text into."""
    folder = tmp_path / "run"
    folder.mkdir()
    nasty = {HOSTILE: HOSTILE}
    (folder / "settings.json").write_text(json.dumps(nasty | {"model": HOSTILE, "world": HOSTILE}))
    (folder / "versions.json").write_text(json.dumps(nasty))
    rows = [{"step": s, "phase": HOSTILE if s % 2 else "train", HOSTILE: s, f"{HOSTILE}2": 1} for s in range(4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "warnings.jsonl").write_text(json.dumps({"step": HOSTILE, "text": HOSTILE}) + "\n")
    arm = {"success": 0.5, HOSTILE: 3, "by_level": {HOSTILE: {"success": 0.1}}}
    (folder / "evaluations.json").write_text(json.dumps({"before": {"arms": {HOSTILE: arm}}, "after": {}}))
    task = Task(HOSTILE, HOSTILE, HOSTILE, world=HOSTILE, meta={"level": HOSTILE})
    turn = Turn(0, None, (), (), (), Message("assistant", HOSTILE), (Message("user", HOSTILE),))
    episode = Episode(task, 0, 0, (Trajectory(task, (turn,), HOSTILE, problem=HOSTILE),))
    scores = [{"value": 1, "parts": {HOSTILE: 0.5}}]
    append(folder / "episodes.jsonl", [episode], [{"phase": f"{HOSTILE}, {HOSTILE}", "scores": scores}])
    html = write_report(folder).read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert "<script" not in html
    assert "<img" not in html
    assert page.text.count("document.title='owned'") > 20
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_direction_and_control_characters_are_marked(written: tuple[Path, str]) -> None:
    assert "\x1b" not in written[1]
    assert "\u202e" not in written[1]
    assert "␛[31m" in written[1]
    assert "⟨U+202E⟩" in written[1]


def test_keys_and_passwords_are_left_out(written: tuple[Path, str]) -> None:
    assert "sk-not-for-pages" not in written[1]
    assert "endpoint/api_key (hidden)" in Page(written[1]).text


def test_an_empty_folder_is_an_honest_page(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    for said in (
        "Success before and after was not recorded.",
        "Evaluations were not recorded.",
        "Metrics were not recorded.",
        "Episodes were not recorded.",
        "No health warning was recorded.",
        "Settings were not recorded.",
        "Versions were not recorded.",
    ):
        assert said in text


@pytest.mark.parametrize(
    "gone",
    ["settings.json", "versions.json", "metrics.jsonl", "evaluations.json", "evaluation.jsonl", "warnings.jsonl"],
)
def test_any_file_may_be_missing(run_folder: Path, gone: str) -> None:
    (run_folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n')
    (run_folder / gone).unlink()
    page = Page(write_report(run_folder).read_text(encoding="utf-8"))
    assert page.open == []
    assert "of the run folder could not be read" not in page.text


def test_damage_is_told(run_folder: Path) -> None:
    (run_folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "pha')
    text = Page(write_report(run_folder).read_text(encoding="utf-8")).text
    assert "1 part of the run folder could not be read" in text
    assert "metrics.jsonl, line 2: not JSON, left out" in text


def test_writing_again_gives_the_same_page(written: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "first-run"
    shutil.copytree(written[0].parent, folder)
    report._drawn.cache_clear()  # as in another process
    assert write_report(folder).read_text(encoding="utf-8") == written[1]
    assert not list(folder.glob("*.part"))


def test_a_page_that_is_written_again_draws_only_what_is_new(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page after training and that after the evaluation share their curves; the files are there again."""
    write_report(run_folder)
    names = {path.name for path in (run_folder / "figures").iterdir()}
    shutil.rmtree(run_folder / "figures")
    drawn: list[str] = []
    draw = figures.curve_figure
    monkeypatch.setattr(figures, "curve_figure", lambda curve: drawn.append(curve.key) or draw(curve))  # type: ignore[func-returns-value]
    with (run_folder / "metrics.jsonl").open("a") as file:
        file.writelines(f'{{"step": {step}, "phase": "train", "fresh": {step}.5}}\n' for step in (1, 2))
    write_report(run_folder)
    assert drawn == ["c-fresh"]
    assert {path.name for path in (run_folder / "figures").iterdir()} == {*names, "fresh.png"}
    assert (run_folder / "figures" / "success.png").read_bytes().startswith(b"\x89PNG")


def test_training_time_of_a_resumed_run(tmp_path: Path) -> None:
    """The clock ran to 100 s, then anew to 30 s: 130 s."""
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [{"step": s, "phase": "train", "seconds": t} for s, t in ((1, 50), (2, 100), (3, 10), (4, 30))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "training time 2 min 10 s" in Page(write_report(folder).read_text(encoding="utf-8")).text


@pytest.mark.parametrize(("module", "said"), [("jinja2", "pages need jinja2"), ("matplotlib", "need matplotlib")])
def test_missing_extra_is_named(run_folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    report._drawn.cache_clear()  # as in another process
    with pytest.raises(ImportError, match=said) as caught:
        write_report(run_folder)
    assert 'pip install "ferrule[view]"' in str(caught.value)


def test_a_curve_stands_on_the_page_once_and_says_what_it_means(run_folder: Path) -> None:
    """Success and mean reward get the same numbers here: one figure, which names both."""
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["phase"] == "train":
            row |= {"reward/mean": row["success"], "reward/outcome": row["success"]}
    rows = [row for row in rows if row["phase"] == "train"]
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = write_report(run_folder).read_text(encoding="utf-8")
    text = Page(html).text
    assert "The same numbers: Reward, mean; Reward, part outcome." in text
    assert "Share of episodes whose answer is right." in text
    drawings = [re.sub(r"c-[a-z0-9-]+", "", svg) for svg in re.findall(r"<path[^>]*stroke-width: 2[^>]*>", html)]
    assert len(set(drawings)) == len(drawings) >= 8, "no line is drawn twice"
    assert not (run_folder / "figures" / "reward-mean.png").exists()


def test_every_metric_of_a_training_step_has_a_meaning(tiny: Any, tmp_path: Path) -> None:
    from tests.train.pieces import LETTERS, recipe

    from ferrule.train.loop import train
    from ferrule.train.settings import Settings
    from ferrule.view.names import named

    train(
        recipe(),
        LETTERS,
        tiny,
        Settings(max_steps=2, per_device_train_batch_size=8, gradient_accumulation_steps=1),
        tmp_path,
    )
    (row, _) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    known = {key for key in row if key not in ("step", "phase", "seconds")}  # the clock is no curve
    assert {key for key in known if not named(key).meaning} == set()
    of_data = [named(key) for key in ("accuracy", "margin", "rows", "tokens/learned")]
    assert all(told.meaning for told in of_data)
    assert [told.share for told in of_data] == [True, False, False, False]
    assert named("asks/judge").meaning
    assert named("mine/share") == ("mine/share", True, "")


def test_an_episode_begins_with_all_that_the_model_was_fed(tiny: Any, tmp_path: Path) -> None:
    """The ids of the first turn, read back by the tokenizer of the saved model: system text, tools, task."""
    import ferrule as fe
    from ferrule.agents.react import ToolLoop
    from ferrule.tools.calculator import calculator
    from ferrule.worlds.session import Toolbox

    world, task = Toolbox((calculator,)), Task("one", "Compute 1 + 1.", "2")
    episodes = fe.rollout(ToolLoop(system="Be brief.", turns=1), [task], world, tiny)
    append(tmp_path / "episodes.jsonl", episodes, [{"phase": "train"}])
    before = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "given to the model" not in before
    tiny.save(tmp_path / "model")
    after = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "given to the model: system text, tools and task as it read them" in after
    assert "Be brief." in after
    assert f"{calculator.name}(" in after
