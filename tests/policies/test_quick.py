"""Pocket models that only answer: the replies of ``load`` to the last bit, without the import of transformers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ferrule as fe
from ferrule.core.flows import Ask
from ferrule.policies.local import Local
from ferrule.policies.named import answering
from ferrule.policies.pocket import WEIGHTS
from ferrule.policies.pocket.quick import Quick, fits
from ferrule.tools.calculator import calculator


def test_replies_are_those_of_the_loaded_model(one_thread: None) -> None:
    prompts = ["Compute 37 + 85.", "Say hello; naïve, “quoted” and 𝛼.", "Rename the file A.txt to b.txt."]
    asks = [Ask((fe.Message("user", text),), n=3, tools=(calculator,), max_tokens=40, temperature=1.0, seed=i)
            for i, text in enumerate(prompts)]  # fmt: skip
    swift, whole = answering("pocket"), fe.load("pocket")
    assert isinstance(swift.model, Quick)
    assert swift.name == whole.name == "pocket", "no path of this machine"
    assert swift.generate(asks) == whole.generate(asks), "ids, log-probs and texts"
    assert swift.generate(asks)[0][0].sampled


def test_running_a_prompt_does_not_import_transformers() -> None:
    code = (
        "import sys; from ferrule.cli import main; main(['run', 'Compute 37 + 85.'], standalone_mode=False); "
        "print([name for name in ('transformers', 'accelerate', 'datasets', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_key_value_heads", 1), ("attention_bias", True), ("tie_word_embeddings", True), ("rms_norm_eps", 1e-5),
     ("rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})],
)  # fmt: skip
def test_other_models_are_loaded_as_ever(tmp_path: Path, field: str, value: object) -> None:
    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS, folder)
    assert fits(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    assert not fits(folder)


def test_a_saved_pocket_model_answers_quickly_and_one_with_additions_is_loaded(tmp_path: Path) -> None:
    from ferrule.policies.heads import VALUE

    policy = fe.load("pocket")
    policy.save(tmp_path / "plain")
    plain = answering(tmp_path / "plain")
    assert isinstance(plain.model, Quick)
    assert plain.name == fe.load(tmp_path / "plain").name == str(tmp_path / "plain")
    policy.add_head(VALUE)
    policy.save(tmp_path / "headed")
    headed = answering(tmp_path / "headed")
    assert isinstance(headed, Local)
    assert "value" in headed.heads
    assert not isinstance(answering("pocket", codec="react").model, Quick)
