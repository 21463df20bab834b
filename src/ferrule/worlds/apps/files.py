"""The app ``files``: text files by path."""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.worlds.apps.calling import paged, writes
from ferrule.worlds.apps.store import Page, Row, Store, Text

__all__ = ["Files"]


def _checked(path: str) -> str:
    path = path.strip()
    if not path.startswith("/") or path.endswith("/") or "//" in path:
        raise ValueError(f"{path[:60]!r} is not a path of a file; write it like /folder/name.txt")
    return path


@dataclass(frozen=True)
class Files:
    """Text files; folders are the parts of their paths and need not be made."""

    store: Store

    def _one(self, path: str) -> Row:
        rows = self.store.rows("SELECT * FROM files WHERE path = ?", _checked(path))
        if not rows:
            raise LookupError(f"no file {path[:60]!r}")
        return rows[0]

    def _new(self, path: str) -> str:
        if self.store.rows("SELECT id FROM files WHERE path = ?", _checked(path)):
            raise ValueError(f"there is a file {path[:60]!r} already")
        return _checked(path)

    def list(self, folder: Text = "/", page: Page = 1) -> Row:
        """List the paths of all files in a folder and its folders.

        Args:
            folder: such as /work
            page: number of the page
        """
        start = folder.strip().rstrip("/") + "/"
        rows = self.store.rows("SELECT path FROM files WHERE substr(path, 1, ?) = ? ORDER BY path", len(start), start)
        return paged([row["path"] for row in rows], page)

    def search(self, query: Text, page: Page = 1) -> Row:
        """Find files by a part of the path or the content; returns paths.

        Args:
            query: text to look for
            page: number of the page
        """
        rows = self.store.rows(
            "SELECT path FROM files WHERE instr(lower(path || char(10) || content), lower(?)) ORDER BY path",
            query.strip(),
        )
        return paged([row["path"] for row in rows], page)

    def show(self, path: Text) -> Row:
        """Show the content of a file.

        Args:
            path: path of the file
        """
        row = self._one(path)
        return {"path": row["path"], "content": row["content"]}

    @writes
    def write(self, path: Text, content: Text) -> str:
        """Make a file, or replace the content of one.

        Args:
            path: path of the file
            content: its whole content
        """
        rows = self.store.rows("SELECT id FROM files WHERE path = ?", _checked(path))
        if rows:
            self.store.update("files", rows[0]["id"], content=content.strip())
        else:
            self.store.insert("files", path=_checked(path), content=content.strip())
        return "written"

    @writes
    def append(self, path: Text, line: Text) -> str:
        """Add a line at the end of a file.

        Args:
            path: path of the file
            line: the line
        """
        row = self._one(path)
        self.store.update("files", row["id"], content=f"{row['content']}\n{line.strip()}".strip())
        return "appended"

    @writes
    def move(self, path: Text, to: Text) -> str:
        """Move or rename a file.

        Args:
            path: path of the file
            to: its new path
        """
        self.store.update("files", self._one(path)["id"], path=self._new(to))
        return "moved"

    @writes
    def copy(self, path: Text, to: Text) -> str:
        """Copy a file.

        Args:
            path: path of the file
            to: path of the copy
        """
        self.store.insert("files", path=self._new(to), content=self._one(path)["content"])
        return "copied"

    @writes
    def delete(self, path: Text) -> str:
        """Delete a file.

        Args:
            path: path of the file
        """
        self.store.delete("files", id=self._one(path)["id"])
        return "deleted"
