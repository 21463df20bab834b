"""All apps and their APIs, and the documentation that an agent can list, read and search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.tools.schema import heading
from ferrule.tools.search import Document, search_tool
from ferrule.tools.tool import tool
from ferrule.worlds.apps.calendar import Calendar
from ferrule.worlds.apps.calling import PER_PAGE, tools_of
from ferrule.worlds.apps.contacts import Contacts
from ferrule.worlds.apps.files import Files
from ferrule.worlds.apps.mail import Mail
from ferrule.worlds.apps.music import Music
from ferrule.worlds.apps.notes import Notes
from ferrule.worlds.apps.payments import Payments
from ferrule.worlds.apps.shop import Shop

__all__ = ["APPS", "apis", "app_of", "doc_tools"]

APPS: Mapping[str, type] = {
    app.__name__.lower(): app for app in (Mail, Calendar, Notes, Shop, Payments, Music, Files, Contacts)
}
"""The apps by name."""


@cache
def apis() -> Mapping[str, Tool]:
    """Return the patterns of all APIs by name; they have no database yet."""
    return {name: pattern for app in APPS.values() for name, pattern in tools_of(app).items()}


def app_of(api: str) -> str:
    """Return the app of an API's name."""
    return api.partition("_")[0]


def _document(pattern: Tool) -> str:
    """Signature, text, and a line per argument."""
    entries = pattern.parameters["properties"].items()
    arguments = [f"  {name}: {entry.get('description', '')}".rstrip(": ") for name, entry in entries]
    ending = f"\nIt returns up to {PER_PAGE} items at once." if "page" in pattern.parameters["properties"] else ""
    return "\n".join([heading(pattern), pattern.description, *arguments]) + ending


@cache
def doc_tools(apps: tuple[str, ...]) -> tuple[Tool, ...]:
    """Return the four documentation tools over the APIs of these apps."""
    known = {name: pattern for name, pattern in apis().items() if app_of(name) in apps}
    texts = {name: _document(pattern) for name, pattern in known.items()}
    # Names count as words of their own: somebody who looks for "playlist" or "mail" should find them.
    documents = [Document(name, name, f"{name.replace('_', ' ')}\n{text}") for name, text in texts.items()]
    search = search_tool(documents, k=5, snippet=80)

    def docs_apps() -> dict[str, str]:
        """List the apps and what they are for."""
        return {name: (APPS[name].__doc__ or "").strip() for name in apps}

    def docs_list(app: str) -> dict[str, str]:
        """List the APIs of an app with one line each.

        Args:
            app: name of the app
        """
        if app not in apps:
            raise LookupError(f"no app {app[:60]!r}; {nearest(app, apps)}")
        return {name: pattern.description.splitlines()[0] for name, pattern in known.items() if app_of(name) == app}

    def docs_show(api: str) -> str:
        """Show the documentation of one API: its arguments, their types, and what it does.

        Args:
            api: name of the API, such as mail_send
        """
        if api not in texts:
            raise LookupError(f"no API {api[:60]!r}; {nearest(api, list(texts))}")
        return texts[api]

    def docs_search(query: str) -> list[dict[str, str]]:
        """Find APIs by words of their documentation, the best first.

        Args:
            query: what you want to do
        """
        best: Sequence[Mapping[str, Any]] = search.run(query=query).data
        return [{"api": hit["id"], "text": known[hit["id"]].description.splitlines()[0]} for hit in best]

    built = (tool(function) for function in (docs_apps, docs_list, docs_show, docs_search))
    return tuple(replace(each, idempotent=True) for each in built)
