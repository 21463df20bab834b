"""Small chat templates, one for each thing that the templates of real families do, and a tokenizer for them."""

import importlib.util
from pathlib import Path
from typing import Any

_SPEC = importlib.util.spec_from_file_location(
    "templates_table", Path(__file__).resolve().parents[1] / "scripts" / "templates_table.py"
)
assert _SPEC
assert _SPEC.loader
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_TOOL_ROLE = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'tool' %}")
NO_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
NO_PROMPT = CHATML.split("{% if add_generation_prompt")[0]
OTHER_PROMPT = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
RAISES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
TRIMS = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | trim }}")
FORGETS_THINKING = (  # as templates of reasoning models do: thinking of earlier turns is cut once a user speaks again
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.index0 < ns.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WRAPS = CHATML.replace(
    "{{ m['content'] }}",
    "{% if m['role'] == 'tool' %}<tool_response>\n{{ m['content'] }}\n</tool_response>"
    "{% else %}{{ m['content'] }}{% endif %}",
)
AS_USER = CHATML.replace("{{ m['role'] }}", "{{ 'user' if m['role'] == 'tool' else m['role'] }}")
ALTERNATES = (
    "{% for m in messages %}{% if m['role'] == 'user' and not loop.first "
    "and messages[loop.index0 - 1]['role'] == 'tool' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
) + CHATML.removeprefix("{% for m in messages %}")


WRONG_PROMPT = CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>robot\n{% endif")
TAGS = WRAPS.replace("<tool_response>", "<|result|>").replace("</tool_response>", "<|/result|>")
QUOTES = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | tojson if m['role'] == 'tool' else m['content'] }}")
TWICE = CHATML.replace("{{ m['content'] }}", "{{ m['content'] }}{{ m['content'] if m['role'] == 'tool' }}")
SILENT_AFTER_RESULTS = WRAPS.replace(
    "{% if add_generation_prompt %}", "{% if add_generation_prompt and messages[-1]['role'] != 'tool' %}"
)
STRICT_TURNS = (  # no system role, no tool role, and roles must alternate
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) or m['role'] == 'system' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
) + CHATML.removeprefix("{% for m in messages %}")
PARTS = CHATML.replace("{{ m['content'] }}", "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}")
DATED = "<|im_start|>system\nToday is {{ strftime_now('%d %b %Y') }}.<|im_end|>\n" + CHATML
NO_END = (  # a turn is ended by the mark of the next one
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{% elif m['role'] == 'tool' %}<|tool|>"
    "{% elif m['role'] == 'system' %}<|system|>{% else %}<|assistant|>{% endif %}{{ '\\n' }}{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ '\\n' }}{% endif %}"
)
CALLS = (  # tool calls as data, a section about tools, results in the template's own form
    "{% if tools %}<|im_start|>system\n{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n{% endif %}"
    "You may call:{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages if not (tools and m['role'] == 'system') %}"
    "<|im_start|>{{ 'user' if m['role'] == 'tool' else m['role'] }}\n"
    "{% if m['role'] == 'tool' %}<tool_response>\n{{ m['content'] }}\n</tool_response>{% else %}{{ m['content'] }}{% endif %}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BEHIND_CALLS = (  # a result is refused where no call is known and bears the name of the first; it is written as JSON text
    "{% set ns = namespace(name='') %}{% for m in messages %}{% if m['role'] == 'tool' %}"
    "{% if not ns.name %}{{ raise_exception('a result without its call') }}{% endif %}"
    "<|im_start|>{{ ns.name }} says\n{{ m['content'] | tojson }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in (m['tool_calls'] or [])[:1] %}{% set ns.name = c.function.name %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GOES_ON = (
    BEHIND_CALLS.replace(  # the assistant goes on behind the results, in its turn
        "<|im_start|>{{ ns.name }} says\n{{ m['content'] | tojson }}<|im_end|>\n", "[{{ ns.name }}: {{ m['content'] }}]"
    )
    .replace(
        "{% else %}<|im_start|>{{ m['role'] }}\n",
        "{% else %}{% if m['role'] == 'assistant' and messages[loop.index0 - 1]['role'] == 'tool' %}{% else %}"
        "{% if messages[loop.index0 - 1]['role'] == 'tool' %}<|im_end|>\n{% endif %}<|im_start|>{{ m['role'] }}\n{% endif %}",
    )
    .replace(
        "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}",
        "{% if not (m['tool_calls'] and messages[loop.index0 + 1] and messages[loop.index0 + 1]['role'] == 'tool') %}"
        "<|im_end|>\n{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'tool' %}",
    )
)
IN_JSON = CHATML.replace(  # results inside a JSON object, with the id of nine letters and digits that it must have
    "{{ m['content'] }}",
    "{% if m['role'] == 'tool' %}{% if (m['tool_call_id'] or '') | length != 9 %}"
    "{{ raise_exception('an id of nine letters') }}{% endif %}"
    "{{ {'content': m['content'], 'id': m['tool_call_id']} | tojson }}{% else %}{{ m['content'] }}{% endif %}",
)
LATE_SYSTEM = (  # the system text stands before the last question, wherever that is
    "{% set ns = namespace(last=0, system='') %}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% set ns.last = loop.index0 %}{% elif m['role'] == 'system' %}{% set ns.system = m['content'] %}{% endif %}{% endfor %}"
    "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n"
    "{% if m == messages[ns.last] %}{{ ns.system }}{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CUTS = CHATML.replace("{{ m['content'] }}", "{{ m['content'][:4] if m['role'] == 'tool' else m['content'] }}")
SHOWS_THINKING = CHATML.replace(
    "{{ m['content'] }}",
    "{% if m['reasoning_content'] %}[THINK]{{ m['reasoning_content'] }}[/THINK]{% endif %}{{ m['content'] }}",
)
THINKS_BEFORE_CALLS = CALLS.replace(
    "{% else %}{{ m['content'] }}{% endif %}",
    "{% else %}{% if m['reasoning_content'] and m['tool_calls'] %}<|channel>thought\n{{ m['reasoning_content'] }}\n<channel|>"
    "{% endif %}{{ m['content'] }}{% endif %}",
)
LEAVES_THINKING_OUT = CHATML.replace("{{ m['content'] }}", "{{ m['content'].split('<channel|>')[-1] }}")
XML_CALLS = CALLS.replace('{"name": "{{ c.function.name }}"', '<function={{ c.function.name }}>{"name": "x"')


def tokenizer_with(template: str | None) -> Any:
    """Return a tokenizer over bytes with a chat template and the marks that it holds (without one, those of ChatML)."""
    tokenizer = table.tokenizer_of(template or CHATML)
    tokenizer.chat_template = template
    return tokenizer
