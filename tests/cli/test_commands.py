"""The command line as a user meets it: every verb, its JSON form, and what it leaves on disk."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ferrule.cli import main
from ferrule.policies.pocket import WEIGHTS
from ferrule.worlds.named import world_names

ROOT = Path(__file__).parents[2]
OWN = ROOT / "examples" / "own_tools"


def ran(*arguments: str) -> str:
    found = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """A fresh working folder with the example of own tools."""
    shutil.copytree(OWN, tmp_path / "own_tools", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_names_every_command() -> None:
    text = ran("--help")
    assert all(
        name in text
        for name in ("demo", "train", "eval", "run", "papers", "models", "doctor", "report", "bench", "plan")
    )


@pytest.mark.parametrize(
    "command", ["demo", "train", "eval", "run", "papers", "models", "doctor", "report", "bench", "plan"]
)
def test_every_command_explains_itself_and_speaks_json(command: str) -> None:
    assert "--json" in ran(command, "--help")


def test_papers_are_listed_with_their_claims() -> None:
    rows = json.loads(ran("papers", "--json"))
    slugs = [row["slug"] for row in rows]
    assert {"otc", "retool", "verltool", "rl-survey", "toolgate"} <= set(slugs)
    assert [row["number"] for row in rows] == sorted(row["number"] for row in rows)
    assert {row["slug"]: row["claim"]["verdict"] for row in rows if row["claim"]}["otc"] == "held"
    shown = json.loads(ran("papers", "show", "otc", "--json"))
    assert "arxiv" in shown["url"]
    assert shown["claim"]["falsifier"]
    low, high = shown["claim"]["interval"]
    assert f"95 % interval [{low:.4g}, {high:.4g}]" in ran("papers", "show", "otc")


@pytest.mark.usefixtures("worked_here")
def test_claims_are_measured_once_and_stored(tmp_path: Path) -> None:
    """Four arms and three seeds are twelve units; a second call measures nothing, more seeds only what is missing."""
    arguments = ("papers", "claim", "otc", "--size", "tiny", "--folder", str(tmp_path), "--json")
    (claim,) = json.loads(ran(*arguments, "--seeds", "0-2", "--jobs", "2"))
    record = tmp_path / "units" / "otc.jsonl"
    units = record.read_text().splitlines()
    assert len(units) == 12
    assert claim == json.loads((tmp_path / "otc.json").read_text())
    assert (tmp_path / "otc.png").is_file()
    assert json.loads(ran(*arguments, "--seeds", "0,1,2")) == [claim]
    assert record.read_text().splitlines() == units
    (more,) = json.loads(ran(*arguments, "--seeds", "0-3"))
    assert len(record.read_text().splitlines()) == 16
    assert [row[:3] for row in more["arms"]["otc"].values()] == list(claim["arms"]["otc"].values())


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    for arguments, told in (
        (("papers", "claim"), "name papers, or give --all"),
        (("papers", "claim", "otcc"), "did you mean 'otc'"),
        (("papers", "claim", "otc", "--size", "tinny"), "did you mean 'tiny'"),
        (("papers", "claim", "otc", "--seeds", "one"), "write 0-4 or 100,101,102"),
        (("papers", "claim", "otc", "--on", "slurm"), "known: ray, ray:ADDRESS"),
    ):
        refused = CliRunner().invoke(main, [*arguments, *(("--folder", str(tmp_path)) if len(arguments) > 2 else ())])
        assert refused.exit_code != 0
        assert told in refused.output
    assert not list(tmp_path.iterdir())


def test_models_are_listed() -> None:
    rows = {row["name"]: row for row in json.loads(ran("models", "--json"))}
    assert rows["pocket"]["ready"]
    assert "smollm2-135m" in rows


def test_doctor_reports_isolation() -> None:
    assert "isolation" in json.loads(ran("doctor", "--json"))


def test_run_answers_one_prompt_with_a_tool(here: Path) -> None:
    episode = json.loads(ran("run", "Compute 37 + 85.", "--model", "pocket", "--json"))
    assert episode["task"]["prompt"] == "Compute 37 + 85."
    assert episode["turns"]
    asked = CliRunner().invoke(main, ["run", "What is the price of the lamp?", "--tools", "own_tools/tools.py"])
    assert "  -> [" in asked.stdout, "a call and what came back"
    assert asked.exit_code == int("no answer: " in asked.stderr)


def test_run_without_an_answer_shows_what_the_model_wrote_and_fails(here: Path) -> None:
    """One token is no whole reply: what the model began stands on the screen, and in the JSON form."""
    cut = ["run", "Compute 37 + 85.", "--max-completion-length", "1"]
    failed = CliRunner().invoke(main, cut)
    assert failed.exit_code == 1
    assert "no answer: the last reply was cut off; --max-completion-length" in failed.stderr
    as_data = CliRunner().invoke(main, [*cut, "--json"])
    assert as_data.exit_code == 1
    (turn,) = json.loads(as_data.stdout)["turns"]
    assert turn["reply"]["content"].strip()
    assert failed.stdout == turn["reply"]["content"].strip() + "\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [("../../x", "has '/' in it"), ("/tmp/x", "has '/' in it"), ("..", "begins with '.'"), ("-x", "begins with '-'"),
     ("a b", "has ' ' in it"), ("", "is empty"), ("é", "has 'é' in it"), ("a\nb", "has '\\n' in it")],
)  # fmt: skip
def test_the_name_of_a_run_is_one_folder_inside_runs(here: Path, name: str, why: str) -> None:
    for command in (["train"], ["demo"], ["arena", "--recipes", "grpo"]):
        refused = CliRunner().invoke(main, [*command, f"--name={name}"])
        assert refused.exit_code == 2
        told = " ".join(refused.output.split())
        assert why in told
        assert "--output-dir" in told
    assert not (here / "runs").exists()


def test_a_run_may_lie_in_any_other_folder(here: Path) -> None:
    steps = ["--max-steps", "1", "--num-generations", "2", "--per-device-train-batch-size", "2", "--eval-tasks", "0"]
    place = here / "else where" / "run"
    result = json.loads(ran("train", "--max-completion-length", "8", *steps, "--output-dir", str(place), "--json"))
    assert result["folder"] == str(place)
    assert (place / "model" / "model.safetensors").is_file()
    assert not (here / "runs").exists()
    both = CliRunner().invoke(main, ["train", "--name", "x", "--output-dir", str(place)])
    assert "not both" in both.output


def test_eval_measures_and_keeps_the_episodes(here: Path) -> None:
    data = json.loads(ran("eval", "apis", "--eval-tasks", "10", "--output", "episodes.jsonl", "--json"))
    assert data["count"] == 10
    assert 0 <= data["interval"][0] <= data["success"] <= data["interval"][1] <= 1
    rows = [json.loads(line) for line in (here / "episodes.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert sum(row["extra"]["scores"][0]["value"] for row in rows) / 10 == pytest.approx(data["success"])
    (here / "one.jsonl").write_text('{"prompt": "What is 1 + 1?", "answer": "2", "verifier": "numeric"}\n')
    told = CliRunner().invoke(main, ["eval", "--tasks", "one.jsonl"])
    assert "one holds 1 test tasks among 1 rows; 0 are for training; 100 were asked for" in told.output
    assert "tasks: 1" in told.output
    bare = json.loads(ran("eval", "apis", "--eval-tasks", "10", "--no-tools", "--json"))
    assert bare["calls"] == 0


def test_eval_with_and_without_tools(here: Path) -> None:
    """Rows that bring the steps of a solution: what is missing is counted, by calls as well, and by a judge on demand."""
    row = {"problem": "What is 2 + 3?", "answer": "5", "solution_steps": ["2 + 3 = 5"], "split": "test"}
    Path("steps.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    short = ["eval", "--dataset", "steps.jsonl", "--eval-tasks", "1", "--max-completion-length", "16", "--paired"]
    data = json.loads(ran(*short, "--judge", "pocket", "--output", "both.jsonl", "--json"))
    assert list(data["sides"]) == ["without tools", "with tools"]
    assert data["sides"]["with tools"]["missing"]["count"] + data["sides"]["with tools"]["missing"]["unknown"] == 1
    assert data["spent"]["judge"]["asks"] >= 4
    rows = [json.loads(line)["extra"] for line in Path("both.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["phase"]: row["scores"][0]["value"] for row in rows} == {
        f", {side}": told["success"] for side, told in data["sides"].items()
    }
    told = ran(*short)
    assert "without tools: " in told
    assert "comparisons without a result" not in told
    assert "comparisons without a result: 1" in ran(*short, "--judge", "pocket")  # it does not reply as it is asked to
    assert "missing reference steps" in told
    for wrong in (["--judge", "pocket"], ["--paired", "--no-tools"], ["--paired", "--judge", "x", "--record", "c"]):
        assert CliRunner().invoke(main, ["eval", "apis", *wrong]).exit_code == 2


def test_eval_on_rows_of_other_columns(here: Path) -> None:
    (here / "rows.csv").write_text("task_text,answer,solution\nWhat is 1 + 1?,2,\n", encoding="utf-16")
    arguments = ["eval", "--dataset", "rows.csv", "--prompt-field", "task_text", "--verifier", "numeric"]
    told = CliRunner().invoke(main, [*arguments, "--max-completion-length", "8"])
    assert told.exit_code == 0
    assert "rows: not used: 'solution'; read as 'tasks' from task_text, answer" in told.output
    without = CliRunner().invoke(main, ["eval", "apis", "--prompt-field", "task_text"])
    assert "prompt_field would do nothing: 'apis' is a generated world" in without.output


def test_modules_beside_the_caller_are_found(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(here))])
    (here / "counting_up.py").write_text(
        "class Counter:\n    'Count up.'\n    reward = 0.0\n"
        "    def reset(self, seed=0):\n        return 'Go.'\n"
        "    def up(self) -> int:\n        'One more.'\n        return 1\n"
    )
    short = ["--eval-tasks", "1", "--max-completion-length", "8", "--json"]
    assert json.loads(ran("eval", "counting_up:Counter", *short))["count"] == 1
    monkeypatch.delitem(sys.modules, "counting_up")


def test_eval_of_a_benchmark_with_rows_of_ones_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FERRULE_DATA", raising=False)
    (here / "test.csv").write_text("question,answer\nWhat is 1 + 1?,#### 2\nWhat is 2 + 2?,#### 4\n")
    short = ["--max-completion-length", "8", "--json"]
    data = json.loads(ran("eval", "gsm8k", "--dataset", "test.csv", *short, "--eval-tasks", "2"))
    assert (data["suite"], data["count"], data["settings"]["tasks"]) == ("gsm8k", 2, "test.csv")
    row = {"question": "Is Oslo in Norway?", "answer": "yes", "context": [["Oslo", ["Oslo lies in Norway."]]]}
    (here / "dev.jsonl").write_text(json.dumps(row))
    told = ran("eval", "hotpotqa", "--dataset", "dev.jsonl", *short[:-1])
    assert "  f1: " in told


@pytest.fixture
def data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder with a small gsm8k."""
    (here / "gsm8k").mkdir()
    for split in ("train", "test"):
        rows = [json.dumps({"question": f"{split}: {i} + {i}?", "answer": f"#### {2 * i}"}) for i in range(8)]
        (here / "gsm8k" / f"{split}.jsonl").write_text("\n".join(rows))
    monkeypatch.setenv("FERRULE_DATA", str(here))


@pytest.mark.usefixtures("data")
def test_train_and_eval_take_the_same_names() -> None:
    for command in ("train", "eval"):
        assert all(name in "".join(ran(command, "--help").split()) for name in world_names())
    steps = ["--max-steps", "1", "--num-generations", "2", "--per-device-train-batch-size", "2", "--eval-tasks", "2"]
    short = [*steps, "--gradient-accumulation-steps", "1", "--max-completion-length", "8", "--json"]
    for world in ("gsm8k", "knapsack"):
        assert json.loads(ran("train", "--world", world, "--name", world, *short))["summary"]["steps"] == 1
        assert (
            json.loads(ran("eval", world, "--eval-tasks", "1", "--max-completion-length", "8", "--json"))["count"] == 1
        )
    for wrong in (["train", "--world", "gsm8"], ["eval", "gsm8"]):
        said = CliRunner().invoke(main, wrong).output
        assert "no world and no file 'gsm8'; did you mean 'gsm8k'" in said


def test_train_on_own_tools_and_tasks(here: Path) -> None:
    arguments = ["--tools", "own_tools/tools.py", "--tasks", "own_tools/tasks.jsonl", "--max-steps", "2", "--json"]
    arguments += ["--num-generations", "4", "--per-device-train-batch-size", "8", "--eval-tasks", "6", "--name", "shop"]
    arguments += ["--max-completion-length", "24", "--max-tool-calling-iterations", "2"]
    result = json.loads(ran("train", "--model", "pocket", *arguments))
    folder = here / "runs" / "shop"
    assert result["summary"]["steps"] == 2
    assert set(result["evaluations"]) == {"before", "after"}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    # Eight tasks a step in groups of four, as nothing else was asked for: 32 samples, in two steps.
    assert len((folder / "episodes.jsonl").read_text().splitlines()) == 64
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["gradient_accumulation_steps"], settings["learning_rate"]) == (4, 3e-4)
    assert (settings["temperature"], settings["format_weight"], settings["retries"]) == (1.0, 0.2, 0)
    policy = settings["policy"]
    assert (policy["name"], policy["dtype"], policy["device"]) == ("pocket", "float32", "cpu")
    assert settings["eval_tasks"] == 6
    written = [path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".html")]
    assert {path.suffix for path in written} == {".json", ".jsonl", ".html"}
    assert [path.name for path in written if str(WEIGHTS) in path.read_text()] == [], "a path of this machine"
    page = (folder / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    for name in ("settings.json", "versions.json", "evaluations.json", "summary.json", "model/model.safetensors"):
        assert (folder / name).is_file(), name
    assert any((folder / "figures").glob("*.png"))
    assert any((folder / "tensorboard").iterdir())

    again = CliRunner().invoke(main, ["train", *arguments])
    assert again.exit_code == 2
    assert "--resume" in again.output
    assert "report.html" in ran("report", "shop")
    evaluated = json.loads(ran("eval", "--tasks", "own_tools/tasks.jsonl", "--tools", "own_tools/tools.py",
                               "--model", "runs/shop/model", "--eval-tasks", "4", "--json"))  # fmt: skip
    assert evaluated["count"] == 4


def test_a_run_may_begin_by_imitating(here: Path) -> None:
    arguments = ["--tools", "own_tools/tools.py", "--tasks", "own_tools/tasks.jsonl", "--max-steps", "1", "--json"]
    arguments += ["--num-generations", "2", "--per-device-train-batch-size", "2", "--eval-tasks", "0"]
    arguments += ["--max-completion-length", "24", "--max-tool-calling-iterations", "2"]
    result = json.loads(ran("train", *arguments, "--warm-up", "2", "--warm-up-on", "demonstrations"))
    assert result["summary"]["steps"] == 3
    rows = [json.loads(line) for line in (here / "runs" / "train" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["part"]) for row in rows] == [("data", 0), ("train", 0), ("train", 0), ("train", 1)]
    assert [row["learning_rate"] for row in rows[1:]] == pytest.approx([9e-4, 9e-4, 3e-4])
    own = ["--world", "arithmetic", "--levels", "1", *arguments[4:], "--name", "own", "--warm-up", "1"]
    assert json.loads(ran("train", *own))["summary"]["steps"] == 2
    first = json.loads((here / "runs" / "own" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["phase"] == "data"
    assert 0 < first["rows"] <= 64 * 2, "the successes of 64 tasks, two episodes each, some of them right"
    assert first["tokens/sampled"] > 0
    idle = CliRunner().invoke(main, ["train", *arguments, "--warm-up-on", "successes"])
    assert "would do nothing without --warm-up" in idle.output


def test_a_recipe_by_import_path_is_used_and_recorded(here: Path) -> None:
    arguments = ["--world", "arithmetic", "--max-steps", "1", "--num-generations", "4", "--eval-tasks", "2", "--json"]
    arguments += ["--max-completion-length", "24", "--gradient-accumulation-steps", "1"]
    ran("train", *arguments, "--name", "otc", "--recipe", "ferrule.papers.otc:recipe")
    assert json.loads((here / "runs" / "otc" / "settings.json").read_text())["recipe"] == "ferrule.papers.otc:recipe"
    wrong = CliRunner().invoke(main, ["train", *arguments, "--recipe", "ferrule.papers.otc:PAPER"])
    assert wrong.exit_code != 0


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_train_runs_on_the_real_model(here: Path, smollm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRULE_HOME", str(smollm.parent.parent))
    arguments = ["--tools", "own_tools/tools.py", "--tasks", "own_tools/tasks.jsonl", "--max-steps", "2", "--json"]
    # By default a step plays eight tasks. Of two with two samples each, the update takes an eighth of the time.
    arguments += ["--num-generations", "2", "--per-device-train-batch-size", "2", "--gradient-accumulation-steps", "2"]
    arguments += ["--eval-tasks", "2", "--max-completion-length", "24", "--max-tool-calling-iterations", "2"]
    result: dict[str, Any] = json.loads(ran("train", "--model", "smollm2-135m", *arguments))
    assert result["summary"]["steps"] == 2
    assert (here / "runs" / "train" / "model" / "model.safetensors").stat().st_size > 100_000_000


def test_eval_is_recorded_and_replayed_without_the_model(here: Path) -> None:
    told = ["eval", "arithmetic", "--eval-tasks", "3", "--json"]
    made = json.loads(ran(*told, "--record", "run.jsonl"))
    played = json.loads(ran(*told, "--replay", "run.jsonl", "--model", "no/such-model"))
    for result in (made, played):
        del result["by_role"]["solver"]["seconds"]  # what the machine took
    assert made["settings"].pop("policy")["kind"] == "Local"
    assert played["settings"].pop("policy") is None
    assert made["settings"]["temperature"] == 0.0
    assert {**played, "model": made["model"]} == made
    wrong = CliRunner().invoke(main, [*told, "--replay", "run.jsonl", "--seed", "5"])
    assert wrong.exit_code == 2
    assert "not in the cassette run.jsonl" in wrong.output
    both = CliRunner().invoke(main, [*told, "--replay", "run.jsonl", "--record", "run.jsonl"])
    assert "not both" in both.output
