"""Hook of the documentation site: reference pages, the navigation, and the files that lie outside ``docs/``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["modules", "on_config", "on_files", "on_page_markdown", "reference"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "ferrule"
# From the bottom layer to the top, as the architecture page presents them.
ORDER = (
    "core", "chat", "sandbox", "tools", "worlds", "agents", "credit", "rewards", "memory", "data", "online", "rollout",
    "policies", "objectives", "train", "evaluate", "speed", "serve", "view", "studies", "papers", "cli",
)  # fmt: skip
GUIDES = (
    "tools", "worlds", "benchmarks", "data", "apps", "chat", "templates", "models", "engines", "rewards", "credit",
    "objectives", "training", "finetuning", "trees", "memory", "packed", "scale", "planning", "evaluation", "reports",
    "serving", "mcp", "openenv", "contracts", "documents", "forge", "replay",
)  # fmt: skip


def modules() -> dict[str, list[str]]:
    """Return the dotted names of all modules with a public name, by folder, in reading order."""
    folders: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if len(parts) < 3 or any(part.startswith("_") for part in parts[:-1]):
            continue
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if names[-1].startswith("_") or not _documented(path):
            continue
        folders.setdefault(parts[1], []).append(".".join(names))
    order = {name: place for place, name in enumerate(ORDER)}
    return dict(sorted(folders.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _documented(path: Path) -> bool:
    """Return whether a module has public names of its own, or at least a docstring to show."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return ast.get_docstring(tree) is not None


def reference(folder: str, names: list[str]) -> str:
    """Return the reference page of one folder of the package."""
    parts = [f"# ferrule.{folder}\n"]
    for name in names:
        level = 1 if name == f"ferrule.{folder}" else 2
        heading = "" if level == 1 else f"\n## {name}\n"
        parts.append(f"{heading}\n::: {name}\n    options:\n      heading_level: {level + 1}\n")
    return "".join(parts)


def _existing(folder: str, order: tuple[str, ...] = ()) -> list[str]:
    """Return the pages of a folder of the docs, the named ones first."""
    pages = {path.stem: path for path in sorted((ROOT / "docs" / folder).glob("*.md"))}
    listed = [name for name in order if name in pages] + [name for name in pages if name not in order]
    return [f"{folder}/{name}.md" for name in listed]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation from what exists."""
    arenas = ("arena.md", "arena-profile.md", "taught.md")
    arena = [name for name in arenas if (ROOT / "docs" / name).is_file()]
    nav: list[Any] = [
        {"Start": ["index.md", "quickstart.md", "architecture.md", "extend.md"]},
        {"Guide": _existing("guide", GUIDES)},
        {"Papers": ["papers.md", "evidence.md", *arena, *_existing("claims")]},
        {"Records": _existing("records")},
        {"Reference": [{f"ferrule.{folder}": f"reference/{folder}.md"} for folder in modules()]},
        {"Project": ["deprecation.md", "changelog.md", "contributing.md"]},
    ]
    config.nav = [section for section in nav if next(iter(section.values()))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference pages, the figures of claims, and the root's pages that belong to the site as well."""
    for folder, names in modules().items():
        files.append(File.generated(config, f"reference/{folder}.md", content=reference(folder, names)))
    for picture in sorted((ROOT / "claims").glob("*.png")):
        files.append(File.generated(config, f"claims/{picture.name}", abs_src_path=str(picture)))
    for source in ("CHANGELOG.md", "CONTRIBUTING.md"):
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, source.lower(), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links from ``docs/`` to files of the root lead to their copies in the site."""
    return markdown.replace("](../../claims/", "](")
