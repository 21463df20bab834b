"""Turn a Llama-shaped GGUF file into a Hugging Face folder whose weights and token ids equal the file's."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["convert"]

_CONTROL = 3  # GGUF token type of control tokens


def convert(gguf: Path, target: Path, pre: str) -> dict[str, Any]:
    """Write config, float32 safetensors and tokenizer files into ``target`` and return facts for the record.

    float32 holds every dequantised value exactly; float16 and bfloat16 do not (a 4-bit block is scale times level
    plus offset). ``pre`` is the splitting rule the file must name. Raises ``RuntimeError`` when the file names another
    rule or when what was written does not load back.
    """
    from transformers import AutoConfig, AutoTokenizer

    named = _fields(gguf)
    if named["tokenizer.ggml.pre"] != pre:
        raise RuntimeError(f"{gguf.name} names the splitting rule {named['tokenizer.ggml.pre']!r}, not {pre!r}")
    tokenizer = _tokenizer(named, pre)
    tokenizer.save_pretrained(target)
    parameters = _write_weights(gguf, target)
    _tidy(target / "config.json", drop=("_name_or_path", "_model_name_or_path"))
    _tidy(target / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    config = AutoConfig.from_pretrained(target)
    again = AutoTokenizer.from_pretrained(target)
    sample = "a  3 plus 12345 is 12348<|im_end|>\n"
    if config.vocab_size != len(again) or again.encode(sample) != tokenizer.encode(sample):
        raise RuntimeError(f"the files converted from {gguf.name} do not load back as written")
    return {
        "dtype": "float32",
        "stored": "the exact values of the quantised file, as float32",
        "parameters": parameters,
        "context": int(config.max_position_embeddings),
        "eos": again.eos_token,
        "pad": again.pad_token,
    }


def _write_weights(gguf: Path, target: Path) -> int:
    """Write config and safetensors of the dequantised model and return its number of parameters."""
    import torch
    import transformers

    # Releases that can compute on quantised blocks must be told to unpack them; older ones always do.
    unpack = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": unpack(dequantize=True)} if unpack else {}
    with redirect_stderr(StringIO()):  # the loader draws a progress bar that no setting turns off
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32, **options
        )
        model.save_pretrained(target)
    return int(sum(p.numel() for p in model.parameters()))


def _fields(gguf: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    return {name: field.contents() for name, field in reader.fields.items()}


def _splitter(pre: str) -> Any:
    """Return the pre-tokenizer that a GGUF only names; the generic conversion would leave it out."""
    from tokenizers import pre_tokenizers

    rules = {
        # Digits on their own before the byte-level rule: "a  3" is "a", "  ", "3" and not "a", " ", " 3".
        "smollm": lambda: pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    }
    if pre not in rules:
        raise RuntimeError(f"unknown splitting rule {pre!r}; {nearest(pre, list(rules))}")
    return rules[pre]()


def _tokenizer(named: dict[str, Any], pre: str) -> Any:
    """Build the fast tokenizer from the vocabulary, merges and token types of a GGUF file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = named["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in named["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = _splitter(pre)
    backend.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, named["tokenizer.ggml.token_type"], strict=True) if kind == _CONTROL]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    special = {
        name: tokens[named[f"tokenizer.ggml.{key}_token_id"]]
        for name, key in (
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        )
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=named["llama.context_length"],
        clean_up_tokenization_spaces=False,
        chat_template=named["tokenizer.chat_template"],
        **special,
    )


def _tidy(path: Path, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Drop and set keys of a JSON file: traces of the conversion, and names that only new releases know."""
    config = {k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items() if k not in drop}
    if "rms_norm_eps" in config:  # a float32 in the file: 9.999999747378752e-06 is meant as 1e-05
        config["rms_norm_eps"] = float(f"{config['rms_norm_eps']:.3g}")
    path.write_text(json.dumps({**config, **changes}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
