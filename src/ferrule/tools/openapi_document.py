"""OpenAPI 3 documents: loading them, and the operations that they describe with the schema of their arguments.

Source of the form: OpenAPI Specification 3.0 and 3.1, https://spec.openapis.org/oas/.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from ferrule.core.hosts import on_this_machine
from ferrule.tools.openapi_wire import Slot
from ferrule.tools.schema import merged, problem, resolve

__all__ = ["Operation", "address", "checked", "load_document", "operations", "path_name"]

_VERBS = ("get", "post", "put", "delete", "patch", "head", "options", "trace")
_DEPTH, _ROUNDS = 4, 2  # schemas below the first, and how often a pointer is followed inside itself
_SCHEMAS = ("items", "additionalProperties", "not", "contains", "if", "then", "else")
_SETS = ("properties", "patternProperties", "$defs", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_LEFT_OUT = ("accept", "content-type", "authorization")  # the specification has parameters of these names ignored
_STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}


@dataclass(frozen=True)
class Operation:
    """One operation: ``method`` and ``path`` as the document has them, and the JSON schema of its arguments.

    ``slots`` say where each argument goes in the request, ``media`` is the media type of the body ("" without one),
    ``required`` whether there has to be one, ``output`` the schema of the JSON it answers with, and ``entry`` what the
    document says of it.
    """

    method: str
    path: str
    parameters: Mapping[str, Any] = field(repr=False)
    slots: tuple[Slot, ...] = field(repr=False)
    media: str = ""
    required: bool = False
    output: Mapping[str, Any] | None = field(default=None, repr=False)
    entry: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The document's name for it (``operationId``), else ``path_name``, in the characters of tool names."""
        return _name(str(self.entry.get("operationId", ""))) or path_name(self)

    @property
    def description(self) -> str:
        """The document's summary and description."""
        texts = (str(self.entry.get(key) or "").strip() for key in ("summary", "description"))
        return "\n\n".join(dict.fromkeys(filter(None, texts))) or f"{self.method.upper()} {self.path}"


def path_name(operation: Operation) -> str:
    """Return ``get_movie_movie_id`` for ``GET /movie/{movie_id}``."""
    return _name(f"{operation.method}{operation.path}")


def _name(text: str) -> str:
    """Return a text in the characters of tool names; the end of a long one is a digest of all of it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")
    return name if len(name) <= 64 else f"{name[:55]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def load_document(document: str | Path) -> Mapping[str, Any]:
    """Return an OpenAPI document from a file or a URL, in JSON or YAML (for which PyYAML has to be installed).

    Relative addresses of servers are resolved against the URL. Raises ``ValueError`` for what is no such document,
    ``FileNotFoundError`` and ``ConnectionError`` where it is not to be had, ``ImportError`` for YAML without PyYAML.
    """
    source = str(document)
    remote = source.startswith(("http://", "https://"))
    text = _fetched(source) if remote else _read(Path(document))
    spec = checked(_parsed(text, source), source)
    if remote:
        servers = [{**entry, "url": urljoin(source, address(entry))} for entry in spec.get("servers") or [{"url": "/"}]]
        return {**spec, "servers": servers}
    return dict(spec)


def checked(spec: Any, source: str) -> Mapping[str, Any]:
    """Return a document; raises ``ValueError`` where its outer form is not that of OpenAPI 3."""
    version = str(spec.get("openapi", "")) if isinstance(spec, Mapping) else ""
    if not version.startswith("3."):
        older = isinstance(spec, Mapping) and "swagger" in spec
        hint = "it is Swagger 2: convert it to OpenAPI 3 first" if older else "its field 'openapi' should begin with 3."
        raise ValueError(f"{source} is no OpenAPI 3 document; {hint}")
    if not isinstance(spec.get("paths") or {}, Mapping):
        raise ValueError(f"{source} is no OpenAPI 3 document; its field 'paths' should be an object")
    servers = spec.get("servers") or []
    if not isinstance(servers, list) or not all(isinstance(entry, Mapping) for entry in servers):
        raise ValueError(f"{source} is no OpenAPI 3 document; its field 'servers' should be a list of objects")
    return spec  # type: ignore[no-any-return]


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no OpenAPI document {str(path)!r}; give a file or a URL of JSON or YAML")
    return path.read_text(encoding="utf-8")


def _fetched(url: str) -> str:
    try:
        here = on_this_machine(httpx.URL(url).host)
        with httpx.Client(timeout=30.0, trust_env=not here, follow_redirects=True) as client:
            response = client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(f"{url}: no document ({type(error).__name__}: {error})") from None
    if not response.is_success:
        raise ConnectionError(f"{url}: no document (HTTP {response.status_code} {response.reason_phrase})")
    return response.text


def _parsed(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as not_json:
        if text.lstrip().startswith("{"):
            raise ValueError(f"{source} is not JSON: {not_json}") from None
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError(f"{source} is YAML; to read it: pip install pyyaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is neither JSON nor YAML: {error}") from None


def operations(spec: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield the operations of a document, in its order.

    Raises ``ValueError`` for pointers out of the document and for what is not described as OpenAPI 3 has it.
    """
    for path, item in (spec.get("paths") or {}).items():
        item = resolve(item, spec)
        for verb in _VERBS:
            if not isinstance(item, Mapping) or not isinstance(item.get(verb), Mapping):
                continue
            entry = {**item[verb], "servers": item[verb].get("servers") or item.get("servers")}
            try:
                yield _operation(verb, str(path), entry, item.get("parameters") or (), spec)
            except (AttributeError, KeyError, TypeError) as error:
                wrong = f"{type(error).__name__}: {error}"
                raise ValueError(f"{verb.upper()} {path} is not described as OpenAPI 3 has it ({wrong})") from None


def _operation(
    verb: str, path: str, entry: Mapping[str, Any], shared: Sequence[Any], spec: Mapping[str, Any]
) -> Operation:
    parameters: dict[tuple[str, str], Mapping[str, Any]] = {}
    for given in (*shared, *(entry.get("parameters") or ())):  # those of the operation replace those of its path
        parameter = _pointed(given, spec)
        if "name" not in parameter:
            raise ValueError(f"a parameter of {verb.upper()} {path} has no name: {given!r}")
        parameters[str(parameter.get("in", "query")), str(parameter["name"])] = parameter
    for name in re.findall(r"\{([^{}]+)\}", path):  # many documents forget to list these
        parameters.setdefault(("path", name), {"name": name, "in": "path", "schema": {"type": "string"}})
    properties: dict[str, Any] = {}
    needed: list[str] = []
    slots: list[Slot] = []
    for (place, name), parameter in parameters.items():
        if place == "header" and name.lower() in _LEFT_OUT:
            continue
        argument = name if name not in properties else f"{place}_{name}"
        media, schema = _content(parameter)
        about = str(parameter.get("description") or "").strip()
        properties[argument] = {**_object(_inlined(schema, spec)), **({"description": about} if about else {})}
        style = str(parameter.get("style", _STYLES.get(place, "form")))
        slots.append(Slot(argument, name, place, style, bool(parameter.get("explode", style == "form")), media))
        if parameter.get("required") or place == "path":
            needed.append(argument)
    media = _body(entry, spec, properties, needed, slots)
    schema = {"type": "object", "properties": properties, "required": needed}
    required = bool(_pointed(entry.get("requestBody") or {}, spec).get("required"))
    return Operation(verb, path, schema, tuple(slots), media, required, _output(entry, spec), entry)


def _content(parameter: Mapping[str, Any]) -> tuple[str, Any]:
    """Return media type and schema of a parameter; most have a schema alone, and media type ""."""
    for media, content in (parameter.get("content") or {}).items():
        return str(media), content.get("schema", {})
    return "", parameter.get("schema", {"type": "string"})


def _body(
    entry: Mapping[str, Any], spec: Mapping[str, Any], properties: dict[str, Any], needed: list[str], slots: list[Slot]
) -> str:
    """Add the arguments of the body, and return its media type."""
    body = _pointed(entry.get("requestBody") or {}, spec)
    contents = body.get("content") or {}
    if not contents:
        return ""
    media = next((name for name in contents if _json(name)), next(iter(contents)))
    schema = _object(_inlined((contents[media] or {}).get("schema", {}), spec))
    fields = schema.get("properties", {}) if _json(media) or "form" in media else {}
    fields = {name: inner for name, inner in fields.items() if not _object(inner).get("readOnly")}
    if not fields:
        argument = "body" if "body" not in properties else "body_body"
        properties[argument] = schema or {"type": "string"}
        slots.append(Slot(argument, "", "body"))
        needed += [argument] if body.get("required") else []
        return str(media)
    for name, inner in fields.items():
        argument = name if name not in properties else f"body_{name}"
        properties[argument] = inner
        slots.append(Slot(argument, name, "body"))
        needed += [argument] if body.get("required") and name in schema.get("required", ()) else []
    return str(media)


def _object(schema: Any) -> Mapping[str, Any]:
    """Return a schema as an object; one that is True accepts anything, as an empty one does."""
    return schema if isinstance(schema, Mapping) else {}


def _json(media: str) -> bool:
    return media.split(";")[0].strip().endswith("json")


def _pointed(value: Any, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a pointer inside the document."""
    if isinstance(value, Mapping) and not str(value.get("$ref", "#")).startswith("#"):
        raise ValueError(f"{value['$ref']!r} points out of the document; bundle it into one file first")
    found = resolve(value, spec)
    if not isinstance(found, Mapping):
        raise ValueError(f"{value!r} is no object of an OpenAPI document")
    return found


def _inlined(schema: Any, spec: Mapping[str, Any], depth: int = 0, above: tuple[str, ...] = ()) -> Any:
    """Return a schema without pointers, in the words of JSON schema; what lies too deep accepts anything.

    ``above`` are the pointers that lead to it. The parts of an ``allOf`` are one schema.
    """
    if not isinstance(schema, Mapping):
        return schema
    pointer = schema.get("$ref")
    above = (*above, pointer) if isinstance(pointer, str) else above
    if depth > _DEPTH or (above and above.count(above[-1]) > _ROUNDS):
        return {}
    kept = {key: value for key, value in _pointed(schema, spec).items() if key not in ("example", "examples")}
    if kept.pop("nullable", False) and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
        kept |= {"enum": [*kept["enum"], None]} if kept.get("enum") else {}
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(kept.get(key), bool):  # 3.0 says with a boolean that the bound itself is excluded
            excluded = kept.pop(key)
            kept |= {key: kept.pop(bound)} if excluded and bound in kept else {}
    if "default" in kept and problem(kept["default"], kept, spec):
        del kept["default"]  # a number that is written as a text, say
    for key, value in kept.items():
        if key in _SETS and isinstance(value, Mapping):
            kept[key] = {name: _inlined(inner, spec, depth + 1, above) for name, inner in value.items()}
        elif key in _LISTS and isinstance(value, list):
            kept[key] = [_inlined(inner, spec, depth, above) for inner in value]
        elif key in _SCHEMAS:
            kept[key] = _inlined(value, spec, depth, above)
    return merged(kept, spec) if kept.get("allOf") else kept


def _output(entry: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of the JSON that an operation answers with, where the document has one."""
    answers = entry.get("responses") or {}
    fine: Any = next((answers[code] for code in sorted(answers, key=str) if str(code).startswith("2")), {})
    for media, content in ((resolve(fine, spec) or {}).get("content") or {}).items():
        if _json(str(media)) and isinstance(content.get("schema"), Mapping):
            schema: Mapping[str, Any] = _inlined(content["schema"], spec)
            return schema
    return None


def address(server: Mapping[str, Any]) -> str:
    """Return the address of a server with the defaults of its variables."""
    url = str(server.get("url", ""))
    for name, variable in (server.get("variables") or {}).items():
        url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    return url
