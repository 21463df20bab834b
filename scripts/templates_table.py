"""Write the table of ``docs/guide/templates.md``: how the chat templates that the wheel of TRL carries are laid out.

``python scripts/templates_table.py`` writes it, ``--check`` only tells whether it is up to date. The templates are
those of ``.venv-peers/trl`` (``bash scripts/peers.sh trl``), or of another folder given by ``--templates``.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from ferrule.chat.check import TemplateRefused
from ferrule.chat.fitted import fitted
from ferrule.chat.renderer import ChatML
from ferrule.chat.template import Template

__all__ = ["filled", "main", "table", "templates", "tokenizer_of"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/guide/templates.md")
BEGIN = "<!-- Written by scripts/templates_table.py. Do not edit. -->\n"
END = "<!-- End of what the script writes. -->\n"
_MARK = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_\w+>|</?s>|\[/?[A-Z_]{3,20}\]|\[gMASK\]|<sop>"
)
# What ends a reply by its family's tokenizer; the first that a template holds.
_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|return|>", "<|eot|>", "<end_of_turn>", "<turn|>", "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>", "<end_of_utterance>", "</s>",
)  # fmt: skip


def templates(folder: Path | None = None) -> dict[str, str]:
    """Return the texts of the templates by name; ``FileNotFoundError`` with the command that brings them."""
    folders = [folder] if folder else list(ROOT.glob(".venv-peers/trl/lib/python*/site-packages/trl/chat_templates"))
    paths = sorted(path for place in folders for path in place.glob("*.jinja"))
    if not paths:
        raise FileNotFoundError("no chat templates of TRL here; run: bash scripts/peers.sh trl")
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


def tokenizer_of(template: str) -> Any:
    """Return a tokenizer over bytes that has the marks of a template as special tokens, and the template itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    marks = sorted(set(_MARK.findall(template)))
    end = next((mark for mark in _ENDS if mark in marks), "<|endoftext|>")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token=end)
    tokenizer.add_special_tokens({"additional_special_tokens": [mark for mark in marks if mark != end]})
    tokenizer.chat_template = template
    return tokenizer


def _row(name: str, text: str) -> str:
    """Return the row of one template."""
    try:
        renderer = fitted(tokenizer_of(text), date="2026-01-01")
    except TemplateRefused as reason:
        return f"| `{name}` | refused | {str(reason).replace('|', chr(92) + '|')} | | |\n"
    assert isinstance(renderer, Template | ChatML)
    end = renderer.end.replace("|", "\\|")
    if isinstance(renderer, ChatML):
        return f"| `{name}` | ChatML, role {renderer.tool_role} | `{renderer.codec.name}` | codec | `{end}` | |\n"
    extra = [_EXTRA[change.__name__] for change in renderer.layout.changes]
    extra += ["default system text kept"] if renderer.default_system else []
    extra += ["dated"] if renderer.dated else []
    extra += ["opens the thinking"] if renderer.opens else []
    teller = "template" if renderer.own_tools else "codec"
    cells = (f"`{name}`", f"`{renderer.layout.name}`", f"`{renderer.codec.name}`", teller, f"`{end}`", ", ".join(extra))
    return "| " + " | ".join(cells).rstrip() + " |\n"


_EXTRA = {
    "system_in_user": "system text in the first user turn",
    "joined": "user turns joined",
    "in_parts": "contents as parts",
}


def table(texts: dict[str, str]) -> str:
    """Return the generated part of the page."""
    rows = {name: _row(name, text) for name, text in texts.items()}
    head = "| template | results | calls | tools listed by | end of a reply | further |\n" + "| --- " * 6 + "|\n"
    parts = []
    for title, trains in (("As models ship them", False), ("As TRL patches them for training", True)):
        chosen = [row for name, row in rows.items() if name.endswith("_training") == trains]
        usable = sum("| refused |" not in row for row in chosen)
        parts.append(f"### {title}\n\n{usable} of {len(chosen)} can be used.\n\n{head}{''.join(chosen)}\n")
    return "".join(parts)


def filled(page: str, texts: dict[str, str]) -> str:
    """Return the page with its generated part written again; ``ValueError`` when the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks the line {BEGIN.strip()!r} or {END.strip()!r}")
    return f"{before}{BEGIN}\n{table(texts)}{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; return 1 when ``--check`` finds it stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the page is up to date")
    parser.add_argument("--templates", type=Path, help="folder of the templates")
    given = parser.parse_args(arguments)
    path = ROOT / PAGE
    page = path.read_text(encoding="utf-8")
    wanted = filled(page, templates(given.templates))
    if not given.check:
        path.write_text(wanted, encoding="utf-8")
    elif wanted != page:
        print(f"{PAGE} is not up to date; run: python scripts/templates_table.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
