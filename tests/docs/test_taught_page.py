"""The page of agents that learned first says how worlds were chosen and what did not help, from the record alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("taught_page", ROOT / "scripts" / "taught_page.py")
assert SPEC
assert SPEC.loader
taught_page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(taught_page)


def record() -> dict[str, Any]:
    def row(agent: str, success: float, learning: float, apart: tuple[float, float] | None) -> dict[str, Any]:
        return {
            "world": "apis:level=3", "agent": agent, "success": success, "success_interval": [success, success],
            "difference": None if apart is None else sum(apart) / 2, "difference_interval": apart, "tokens": 50.0,
            "learning": learning, "in_all": 50.0 + learning / 10, "calls": 1.0, "malformed": 0.0, "seconds": 0.1,
            "by_role": {"solver": 50.0}, "curve": [],
        }  # fmt: skip

    about = {
        "agents": ["loop", "loop+draft"], "worlds": ["apis:level=3"], "model": "pocket", "budget": 4000, "seeds": [100],
        "eval_tasks": 10, "learn_tasks": 10, "against": "loop", "command": "ferrule arena", "split": "train",
        "writer": "script",
    }  # fmt: skip
    rows = [row("loop", 0.5, 0, None), row("loop+draft, frozen", 0.4, 200, (-0.15, -0.05))]
    cells = [{"world": "apis:level=3", "agent": "loop+draft, frozen", "entries": entries} for entries in (0, 3)]
    return {
        "arenas": [{"about": about, "rows": rows, "cells": cells, "versions": {"python": "3.11"}}], "development": [0, 1], "least": 0.1,
        "most": 0.9, "chosen": {"apis": {"level": 3, "success by level": {"3": 0.5, "5": 0.0}}},
    }  # fmt: skip


def test_the_page_is_written_from_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(taught_page, "ROOT", tmp_path)
    assert taught_page.main(["--check"]) == 0, "without a record there is no page"
    (tmp_path / "docs" / "records").mkdir(parents=True)
    (tmp_path / taught_page.RECORD).write_text(json.dumps(record()))
    assert taught_page.main(["--check"]) == 1
    assert "run: python scripts/taught_page.py" in capsys.readouterr().err
    assert taught_page.main([]) == 0
    assert taught_page.main(["--check"]) == 0
    page = (tmp_path / taught_page.PAGE).read_text()
    assert "success by level 3: 50%, 5: 0%; played at level 3." in page
    assert "### What did not help" in page
    assert "- `+draft`: Let an agent read documents of the tools of training tasks" in page
    assert "- Without learning, and tokens per task: `loop` 50.0% with 50." in page
    assert "- Did harm: `loop+draft, frozen` -10.0 [-15.0, -5.0] (nothing was learned in 1 of 2 seeds)." in page
    assert "| apis:level=3 | `loop+draft, frozen` | 40.0%" in page
    assert "| 50 | 1.5 | 200 | 70 |" in page
    assert "10 fresh training tasks per world and seed" in page


def test_the_stored_page_is_up_to_date() -> None:
    assert taught_page.main(["--check"]) == 0, "run: python scripts/taught_page.py"
