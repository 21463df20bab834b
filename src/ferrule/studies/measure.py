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
from ferrule.studies.tuning import Tuned

__all__ = ["claim_of", "jobs_of", "measure", "stale", "stale_arms", "store"]

Call = Callable[[Unit], Mapping[str, Any]]


def jobs_of(
    study: Study, call: Call, folder: Path, *, size: str = "small", seeds: Sequence[int] | None = None
) -> dict[Unit, Job]:
    """Return one job per unit of a study; ``call(unit)`` measures it and must be importable by its name.

    As long as arms are still to be tuned, these are the trials that tune them.
    """
    trials = _jobs(study, call, folder, [unit for pairs in study.trials(size).values() for _, unit in pairs])
    tuned = _tuned(study, trials, size)
    return trials if tuned is None else _jobs(study, call, folder, study.units(size, seeds, tuned))


def _jobs(study: Study, call: Call, folder: Path, units: Sequence[Unit]) -> dict[Unit, Job]:
    goldens = golden.read(folder / "goldens", study.slug)["arms"]
    models = {name: weights_digest(name) for name in study.models}
    jobs = {}
    for unit in units:
        address = address_of(
            paper=unit.study, arm=unit.arm, seed=unit.seed,
            settings={**study.settings(unit.size), **dict(unit.changes)}, models=models,
            golden=golden.digest(goldens.get(unit.arm)),
        )  # fmt: skip
        about = {"arm": unit.arm, "seed": unit.seed, "size": unit.size}
        about |= {"changes": dict(unit.changes)} if unit.changes else {}
        jobs[unit] = Job(address, folder / "units" / f"{unit.study}.jsonl", call, (unit,), str(unit), about)
    return jobs


def _tuned(study: Study, trials: Mapping[Unit, Job], size: str) -> dict[str, Tuned] | None:
    """Return what was chosen for the arms, None as long as a trial is missing."""
    lines = results(trials.values())
    if any(job.address not in lines for job in trials.values()):
        return None
    return study.tuned({unit: lines[job.address]["result"] for unit, job in trials.items()}, size)


def claim_of(
    study: Study, call: Call, folder: Path, *, size: str = "small", seeds: Sequence[int] | None = None
) -> Claim | None:
    """Return the claim that the stored units decide; None as long as one is missing or stale."""
    trials = _jobs(study, call, folder, [unit for pairs in study.trials(size).values() for _, unit in pairs])
    tuned = _tuned(study, trials, size)
    if tuned is None:
        return None
    jobs = _jobs(study, call, folder, study.units(size, seeds, tuned))
    lines = results(jobs.values())
    rows: dict[int, dict[str, Any]] = {}
    for unit, job in jobs.items():
        if job.address not in lines:
            return None
        rows.setdefault(unit.seed, {}).update(lines[job.address]["result"])
    return study.judge(rows, size, tuned)


def stale_arms(claim: Mapping[str, Any], study: Study, call: Call, folder: Path) -> list[str]:
    """Return the arms of a stored claim whose units were measured with other settings, models or goldens than today's.

    ``claim`` is the claim as JSON data; an arm without stored units counts as stale, unless none of the study's are
    stored, where nothing can be told.
    """
    if not (folder / "units" / f"{study.slug}.jsonl").is_file():
        return []
    if claim["size"] not in study.sizes:
        return list(study.arms)
    jobs = jobs_of(study, call, folder, size=claim["size"], seeds=claim["seeds"])
    lines = results(jobs.values())
    return list(dict.fromkeys(unit.arm for unit, job in jobs.items() if job.address not in lines))


def stale(claim: Mapping[str, Any], study: Study, call: Call, folder: Path) -> list[str]:
    """Return why a stored claim is not what its study would store today, one sentence each; nothing where it is.

    Arms compute something else (``stale_arms``), conditions are asked that it was not judged by or no longer are, or
    seeds were measured that the study does not measure. Nothing is told of what the claim does not say.
    """
    sentences = []
    if arms := stale_arms(claim, study, call, folder):
        names = ", ".join(arm.replace("_", " ") for arm in arms)
        sentences.append(f"Settings or code have changed what these arms compute since they were measured: {names}.")
    stored = claim.get("setup", {}).get("conditions")
    if stored is not None:
        before = {(one["name"], float(one["threshold"]), bool(one["decides"])) for one in stored}
        asked = {(one.name, float(one.threshold), one.decides) for one in study.asks}
        if names := "; ".join(sorted({name for name, *_ in before ^ asked})):
            sentences.append(f"These conditions are new, gone or asked otherwise since it was judged: {names}.")
    if not set(claim["seeds"]) <= set(study.seeds):
        sentences.append(f"The study measures the seeds {study.seeds[0]} to {study.seeds[-1]} by now.")
    return sentences


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
    for _ in ("trials", "units"):
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
    path = folder / f"{claim.slug}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    try:
        from ferrule.view.figures import claim_figure
    except ImportError:
        return path
    claim_figure(data, folder / f"{claim.slug}.png")
    return path
