"""Measuring studies through the queue: units become jobs, and finished units become stored claims.

Below the folder of claims lie ``SLUG.json`` (the claim), ``units/SLUG.jsonl`` (every finished unit) and
``goldens/SLUG.json``. A unit counts as long as its address does: the settings of its size, its seed, the models it
starts from, and the golden of its arm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.evaluate.queue import Job, Show, address_of, results, work
from ferrule.policies.named import weights_digest
from ferrule.studies import golden
from ferrule.studies.paper import Claim
from ferrule.studies.study import Study, Unit

__all__ = ["claim_of", "jobs_of", "measure", "stale_arms", "store"]

Call = Callable[[Unit], Mapping[str, Any]]


def jobs_of(
    study: Study, call: Call, folder: Path, *, size: str = "small", seeds: Sequence[int] | None = None
) -> dict[Unit, Job]:
    """Return one job per unit of a study; ``call(unit)`` measures it and must be importable by its name."""
    goldens = golden.read(folder / "goldens", study.paper)["arms"]
    models = {name: weights_digest(name) for name in study.models}
    settings = dict(study.settings(size))
    jobs = {}
    for unit in study.units(size, seeds):
        address = address_of(
            paper=unit.paper, arm=unit.arm, seed=unit.seed, settings=settings, models=models,
            golden=golden.digest(goldens.get(unit.arm)),
        )  # fmt: skip
        about = {"arm": unit.arm, "seed": unit.seed, "size": unit.size}
        jobs[unit] = Job(address, folder / "units" / f"{unit.paper}.jsonl", call, (unit,), str(unit), about)
    return jobs


def claim_of(
    study: Study, call: Call, folder: Path, *, size: str = "small", seeds: Sequence[int] | None = None
) -> Claim | None:
    """Return the claim that the stored units decide; None as long as one is missing or stale."""
    jobs = jobs_of(study, call, folder, size=size, seeds=seeds)
    lines = results(jobs.values())
    rows: dict[int, dict[str, Any]] = {}
    for unit, job in jobs.items():
        if job.address not in lines:
            return None
        rows.setdefault(unit.seed, {}).update(lines[job.address]["result"])
    return study.judge(rows, size)


def stale_arms(claim: Mapping[str, Any], study: Study, call: Call, folder: Path) -> list[str]:
    """Return the arms of a stored claim whose units were measured with other settings, models or goldens than today's.

    ``claim`` is the claim as JSON data; an arm without stored units counts as stale.
    """
    if claim["size"] not in study.sizes:
        return list(study.arms)
    jobs = jobs_of(study, call, folder, size=claim["size"], seeds=claim["seeds"])
    lines = results(jobs.values())
    return list(dict.fromkeys(unit.arm for unit, job in jobs.items() if job.address not in lines))


def measure(
    studies: Sequence[Study],
    call: Call,
    folder: Path,
    *,
    size: str = "small",
    seeds: Sequence[int] | None = None,
    workers: int = 1,
    ray: str | None = None,
    show: Show | None = None,
) -> list[Claim]:
    """Measure what is missing of all studies in one queue, and store and return their claims."""
    jobs = [job for study in studies for job in jobs_of(study, call, folder, size=size, seeds=seeds).values()]
    work(jobs, folder / "queue", workers=workers, ray=ray, show=show)
    claims = [claim_of(study, call, folder, size=size, seeds=seeds) for study in studies]
    complete = [claim for claim in claims if claim is not None]
    for claim in complete:
        store(claim, folder)
    return complete


def store(claim: Claim, folder: Path) -> Path:
    """Write a claim as JSON, with its figure where matplotlib is installed; return the JSON file."""
    data = claim.as_dict()
    path = folder / f"{claim.paper}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    try:
        from ferrule.view.figures import claim_figure
    except ImportError:
        return path
    claim_figure(data, folder / f"{claim.paper}.png")
    return path
