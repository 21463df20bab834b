"""Judge calls with the package bfcl-eval alone: its checker, without the models and servers that it knows as well.

Reads one JSON object per line (``functions``, ``wanted``, ``calls``, ``category``) and prints one list: true, false, or
null where the package fails on its own.
"""

from __future__ import annotations

import json
import sys
import types
from collections import defaultdict
from typing import Any


def stand_in(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def main() -> None:
    convertor = "bfcl_eval.eval_checker.ast_eval.type_convertor"
    stand_in(f"{convertor}.java_type_converter", java_type_converter=None)
    stand_in(f"{convertor}.js_type_converter", js_type_converter=None)
    known = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))
    stand_in("bfcl_eval.constants.model_config", MODEL_CONFIG_MAPPING=known)
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    verdicts: list[bool | None] = []
    for line in sys.stdin:
        row = json.loads(line)
        calls = [{name: arguments} for name, arguments in row["calls"]]
        try:
            result = ast_checker(row["functions"], calls, row["wanted"], Language.PYTHON, row["category"], "any")
            verdicts.append(bool(result["valid"]))
        except Exception:
            verdicts.append(None)
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
