"""The app ``notes``: notes and check lists."""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.worlds.apps.calling import paged, writes
from ferrule.worlds.apps.store import Id, Page, Row, Store, Text

__all__ = ["Notes"]


@dataclass(frozen=True)
class Notes:
    """Notes with a tag; a note may hold a check list of lines that are done or not."""

    store: Store

    def list(self, tag: Text | None = None, page: Page = 1) -> Row:
        """List notes without their text, the pinned ones first.

        Args:
            tag: only notes with this tag
            page: number of the page
        """
        notes = self.store.rows(
            "SELECT id, title, tag, pinned FROM notes WHERE ? IS NULL OR tag = ? ORDER BY pinned DESC, id", tag, tag
        )
        return paged(notes, page)

    def search(self, query: Text, page: Page = 1) -> Row:
        """Find notes by a part of the title or the text.

        Args:
            query: text to look for
            page: number of the page
        """
        notes = self.store.rows(
            "SELECT id, title, tag, pinned FROM notes WHERE instr(lower(title || char(10) || body), lower(?)) "
            "ORDER BY id",
            query.strip(),
        )
        return paged(notes, page)

    def show(self, note_id: Id) -> Row:
        """Show one note with its text and the lines of its check list.

        Args:
            note_id: id of the note
        """
        row = self.store.one("notes", note_id)
        return {
            **row,
            "lines": self.store.rows("SELECT id, text, done FROM lines WHERE note_id = ? ORDER BY id", note_id),
        }

    @writes
    def add(self, title: Text, body: Text = "", tag: Text = "") -> Row:
        """Add a note and return its id.

        Args:
            title: its title
            body: its text
            tag: its tag
        """
        note_id = self.store.insert("notes", title=title.strip(), body=body.strip(), tag=tag.strip(), pinned=0)
        return {"note_id": note_id}

    @writes
    def update(self, note_id: Id, title: Text | None = None, body: Text | None = None, tag: Text | None = None) -> str:
        """Change what is given of a note; the rest stays.

        Args:
            note_id: id of the note
            title: new title
            body: new text
            tag: new tag
        """
        self.store.one("notes", note_id)
        given = {"title": title, "body": body, "tag": tag}
        changed = {name: text.strip() for name, text in given.items() if text is not None}
        self.store.update("notes", note_id, **changed)
        return "updated"

    @writes
    def delete(self, note_id: Id) -> str:
        """Delete a note and its check list.

        Args:
            note_id: id of the note
        """
        self.store.one("notes", note_id)
        self.store.delete("lines", note_id=note_id)
        self.store.delete("notes", id=note_id)
        return "deleted"

    @writes
    def pin(self, note_id: Id, pinned: bool = True) -> str:
        """Pin a note, or take the pin away.

        Args:
            note_id: id of the note
            pinned: whether it is pinned
        """
        self.store.one("notes", note_id)
        self.store.update("notes", note_id, pinned=int(pinned))
        return "pinned" if pinned else "pin removed"

    @writes
    def line_add(self, note_id: Id, text: Text) -> Row:
        """Add a line to the check list of a note.

        Args:
            note_id: id of the note
            text: what the line says
        """
        self.store.one("notes", note_id)
        return {"line_id": self.store.insert("lines", note_id=note_id, text=text.strip(), done=0)}

    @writes
    def line_check(self, line_id: Id, done: bool = True) -> str:
        """Mark a line of a check list as done, or as not done.

        Args:
            line_id: id of the line
            done: whether it is done
        """
        self.store.one("lines", line_id)
        self.store.update("lines", line_id, done=int(done))
        return "done" if done else "not done"

    @writes
    def line_delete(self, line_id: Id) -> str:
        """Delete a line of a check list.

        Args:
            line_id: id of the line
        """
        if not self.store.delete("lines", id=line_id):
            raise LookupError(f"no line {line_id}")
        return "deleted"
