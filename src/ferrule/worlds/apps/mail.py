"""The app ``mail``: folders of mails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ferrule.worlds.apps.calling import paged, writes
from ferrule.worlds.apps.store import Id, Page, Row, Store, Text

__all__ = ["Mail"]

Folder = Literal["inbox", "sent", "archive", "trash"]

_BRIEF = "id, folder, sender, recipient, subject, sent_on, read, starred, label"


@dataclass(frozen=True)
class Mail:
    """Mails in the folders inbox, sent, archive and trash; they can be searched, sent, moved, starred and labelled."""

    store: Store

    def list(self, folder: Folder = "inbox", unread: bool = False, page: Page = 1) -> Row:
        """List the mails of a folder without their bodies, the newest first.

        Args:
            folder: the folder
            unread: only those that were not read yet
            page: number of the page
        """
        mails = self.store.rows(
            f"SELECT {_BRIEF} FROM mails WHERE folder = ? AND (NOT ? OR NOT read) ORDER BY sent_on DESC, id DESC",
            folder,
            unread,
        )
        return paged(mails, page)

    def search(self, query: Text, folder: Folder | None = None, page: Page = 1) -> Row:
        """Find mails by a part of the subject, the body or an address, the newest first.

        Args:
            query: text to look for
            folder: only in this folder
            page: number of the page
        """
        mails = self.store.rows(
            f"SELECT {_BRIEF} FROM mails WHERE (? IS NULL OR folder = ?) AND instr(lower(subject || char(10) || body "
            "|| char(10) || sender || char(10) || recipient), lower(?)) ORDER BY sent_on DESC, id DESC",
            folder,
            folder,
            query.strip(),
        )
        return paged(mails, page)

    @writes
    def show(self, mail_id: Id) -> Row:
        """Show one mail in full; it is marked as read.

        Args:
            mail_id: id of the mail
        """
        self.store.update("mails", mail_id, read=1)
        return self.store.one("mails", mail_id)

    def _sent(self, to: str, subject: str, body: str) -> Row:
        if "@" not in to:
            raise ValueError(f"{to[:60]!r} is not a mail address")
        mail_id = self.store.insert(
            "mails",
            folder="sent",
            sender=self.store.me["email"],
            recipient=to.strip(),
            subject=subject.strip(),
            body=body.strip(),
            sent_on=self.store.today,
            read=1,
            starred=0,
            label="",
        )
        return {"mail_id": mail_id}

    @writes
    def send(self, to: Text, subject: Text, body: Text) -> Row:
        """Send a mail to one address.

        Args:
            to: mail address of the recipient
            subject: subject line
            body: text of the mail
        """
        return self._sent(to, subject, body)

    @writes
    def reply(self, mail_id: Id, body: Text) -> Row:
        """Answer the sender of a mail; the subject is that of the mail after "Re: ".

        Args:
            mail_id: id of the mail to answer
            body: text of the answer
        """
        mail = self.store.one("mails", mail_id)
        return self._sent(mail["sender"], f"Re: {mail['subject']}", body)

    @writes
    def forward(self, mail_id: Id, to: Text) -> Row:
        """Send a mail on as it is; the subject is that of the mail after "Fwd: ".

        Args:
            mail_id: id of the mail
            to: mail address of the recipient
        """
        mail = self.store.one("mails", mail_id)
        return self._sent(to, f"Fwd: {mail['subject']}", mail["body"])

    @writes
    def move(self, mail_id: Id, folder: Folder) -> str:
        """Move a mail to another folder.

        Args:
            mail_id: id of the mail
            folder: where it goes
        """
        self.store.one("mails", mail_id)
        self.store.update("mails", mail_id, folder=folder)
        return f"moved to {folder}"

    @writes
    def delete(self, mail_id: Id) -> str:
        """Delete a mail for good; to put it into the trash, move it.

        Args:
            mail_id: id of the mail
        """
        if not self.store.delete("mails", id=mail_id):
            raise LookupError(f"no mail {mail_id}")
        return "deleted"

    @writes
    def star(self, mail_id: Id, starred: bool = True) -> str:
        """Star a mail, or take the star away.

        Args:
            mail_id: id of the mail
            starred: whether it has a star
        """
        self.store.one("mails", mail_id)
        self.store.update("mails", mail_id, starred=int(starred))
        return "starred" if starred else "star removed"

    @writes
    def label(self, mail_id: Id, label: Text) -> str:
        """Give a mail a label in place of the one it has; an empty text takes it away.

        Args:
            mail_id: id of the mail
            label: the label
        """
        self.store.one("mails", mail_id)
        self.store.update("mails", mail_id, label=label.strip())
        return "labelled"

    @writes
    def mark(self, mail_id: Id, read: bool) -> str:
        """Mark a mail as read or as unread.

        Args:
            mail_id: id of the mail
            read: whether it counts as read
        """
        self.store.one("mails", mail_id)
        self.store.update("mails", mail_id, read=int(read))
        return "marked"
