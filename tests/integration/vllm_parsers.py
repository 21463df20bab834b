"""Read texts with the tool parsers of vLLM; run by the interpreter of its environment.

Standard input holds, as JSON, a folder of a tokenizer and texts with the tools on offer by name of a parser. Standard
output gets a line with the calls of each text, as names and arguments; null where the parser raised.
"""

import json
import logging
import sys
from typing import Any

logging.disable(logging.CRITICAL)


def read(parser: Any, request: Any, text: str) -> list[Any] | None:
    """Return the calls of a text as pairs of a name and arguments."""
    try:
        told = parser.extract_tool_calls(text, request=request)
        return [[call.function.name, json.loads(call.function.arguments or "{}")] for call in told.tool_calls]
    except Exception:
        return None


def main() -> None:
    """Read all texts."""
    from transformers import AutoTokenizer
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    given = json.load(sys.stdin)
    tokenizer = AutoTokenizer.from_pretrained(given["tokenizer"])
    calls: dict[str, list[Any]] = {}
    for name, job in given["jobs"].items():
        request = ChatCompletionRequest(messages=[{"role": "user", "content": "?"}], model="m", tools=job["tools"])
        kind = ToolParserManager.get_tool_parser(name)
        calls[name] = [read(kind(tokenizer, request.tools), request, text) for text in job["texts"]]
    print("calls:", json.dumps(calls))


if __name__ == "__main__":
    main()
