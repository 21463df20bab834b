"""Every Python block of the documentation runs, and every command in it exists with the flags it is shown with."""

from __future__ import annotations

import linecache
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ferrule.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """Return the first line and the code of every fenced block of these languages."""
    text = page.read_text(encoding="utf-8")
    matches = [match for match in BLOCK.finditer(text) if match["language"] in languages]
    return [(text.count("\n", 0, match.start("code")), match["code"]) for match in matches]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order and share their names, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names: dict[str, object] = {"__name__": "a_page"}
    for line, code in blocks(page, "python"):
        padded = "\n" * line + code
        label = f"<{name(page)}, line {line + 1}>"
        linecache.cache[label] = (len(padded), None, padded.splitlines(keepends=True), label)
        exec(compile(padded, label, "exec", dont_inherit=True), names)


def commands(page: Path) -> Iterator[str]:
    """Yield the ``ferrule ...`` lines of shell blocks and of inline code, continued lines joined."""
    text = page.read_text(encoding="utf-8")
    for _, code in blocks(page, "bash", "console", "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            if line.startswith("ferrule "):
                yield line
    for match in re.finditer(r"`(ferrule [^`\n]+)`", BLOCK.sub("", text)):
        yield match[1]


SHOWN = [(page, line) for page in PAGES for line in commands(page)]


def parse(line: str) -> None:
    """Parse a command line without running it."""
    words = shlex.split(line.split(" #")[0].split(" | ")[0].split(" > ")[0])[1:]
    if words == ["NAME"] or "..." in words:
        return
    group: click.Command = main
    context = click.Context(main, info_name="ferrule")
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        _, command, words = group.resolve_command(context, words)
        assert command is not None
        group, context = command, click.Context(command, parent=context)
    group.make_context("shown", words, parent=context)


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=[f"{name(page)}: {line}" for page, line in SHOWN])
def test_commands_exist(page: Path, line: str) -> None:
    """A command that is shown is accepted as written."""
    parse(line)


def test_a_wrong_command_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse("ferrule trane --max-steps 3")
    with pytest.raises(click.UsageError):
        parse("ferrule train --max-stepz 3")


def test_there_are_blocks_and_commands() -> None:
    """The patterns above find something: a change of style must not empty the tests."""
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 25
    assert len(SHOWN) >= 10
