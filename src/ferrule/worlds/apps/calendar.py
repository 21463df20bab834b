"""The app ``calendar``: events and their guests."""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.worlds.apps.calling import day as checked_day
from ferrule.worlds.apps.calling import paged, writes
from ferrule.worlds.apps.calling import time as checked_time
from ferrule.worlds.apps.store import Id, Page, Row, Store, Text

__all__ = ["Calendar"]


def _span(start: str, end: str) -> None:
    if start >= end:
        raise ValueError(f"an event that starts at {start} cannot end at {end}")


@dataclass(frozen=True)
class Calendar:
    """Events with day, times, place and guests; free hours of a day."""

    store: Store

    def today(self) -> Row:
        """Tell today's date."""
        return {"today": self.store.today}

    def list(self, first: Text | None = None, last: Text | None = None, page: Page = 1) -> Row:
        """List events in order of time, all or those from one day to another.

        Args:
            first: earliest day, such as 2026-05-18
            last: latest day
            page: number of the page
        """
        low, high = checked_day(first) if first else "", checked_day(last) if last else "9"
        query = 'SELECT * FROM events WHERE day >= ? AND day <= ? ORDER BY day, "start", id'
        return paged(self.store.rows(query, low, high), page)

    def search(self, query: Text, page: Page = 1) -> Row:
        """Find events by a part of the title or the place.

        Args:
            query: text to look for
            page: number of the page
        """
        events = self.store.rows(
            'SELECT * FROM events WHERE instr(lower(title || char(10) || place), lower(?)) ORDER BY day, "start", id',
            query.strip(),
        )
        return paged(events, page)

    def show(self, event_id: Id) -> Row:
        """Show one event with the mail addresses of its guests.

        Args:
            event_id: id of the event
        """
        row = self.store.one("events", event_id)
        guests = self.store.rows("SELECT email FROM guests WHERE event_id = ? ORDER BY email", event_id)
        return {**row, "guests": [guest["email"] for guest in guests]}

    @writes
    def add(self, title: Text, day: Text, start: Text, end: Text, place: Text = "") -> Row:
        """Add an event and return its id.

        Args:
            title: what it is
            day: date such as 2026-05-18
            start: time such as 09:30
            end: time such as 10:30
            place: where it is
        """
        begins, ends = checked_time(start), checked_time(end)
        _span(begins, ends)
        event_id = self.store.insert(
            "events", title=title.strip(), day=checked_day(day), start=begins, end=ends, place=place.strip()
        )
        return {"event_id": event_id}

    @writes
    def update(
        self,
        event_id: Id,
        title: Text | None = None,
        day: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        place: Text | None = None,
    ) -> str:
        """Change what is given of an event; the rest stays.

        Args:
            event_id: id of the event
            title: new title
            day: new date
            start: new time of its start
            end: new time of its end
            place: new place
        """
        row = self.store.one("events", event_id)
        given = {
            "title": title.strip() if title else None,
            "day": checked_day(day) if day else None,
            "start": checked_time(start) if start else None,
            "end": checked_time(end) if end else None,
            "place": place.strip() if place is not None else None,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        _span({**row, **changed}["start"], {**row, **changed}["end"])
        self.store.update("events", event_id, **changed)
        return "updated"

    @writes
    def delete(self, event_id: Id) -> str:
        """Delete an event.

        Args:
            event_id: id of the event
        """
        self.store.one("events", event_id)
        self.store.delete("guests", event_id=event_id)
        self.store.delete("events", id=event_id)
        return "deleted"

    @writes
    def invite(self, event_id: Id, email: Text) -> str:
        """Invite a guest to an event.

        Args:
            event_id: id of the event
            email: mail address of the guest
        """
        self.store.one("events", event_id)
        if "@" not in email:
            raise ValueError(f"{email[:60]!r} is not a mail address")
        if self.store.rows("SELECT id FROM guests WHERE event_id = ? AND email = ?", event_id, email.strip()):
            raise ValueError(f"{email!r} is invited already")
        self.store.insert("guests", event_id=event_id, email=email.strip())
        return "invited"

    @writes
    def uninvite(self, event_id: Id, email: Text) -> str:
        """Take a guest off an event.

        Args:
            event_id: id of the event
            email: mail address of the guest
        """
        if not self.store.delete("guests", event_id=event_id, email=email.strip()):
            raise LookupError(f"{email[:60]!r} is not invited to event {event_id}")
        return "uninvited"

    def free(self, day: Text) -> Row:
        """List the full hours from 08:00 to 18:00 of a day in which nothing is on.

        Args:
            day: date such as 2026-05-18
        """
        when = checked_day(day)
        busy = self.store.rows('SELECT "start", "end" FROM events WHERE day = ?', when)
        hours = [(f"{hour:02}:00", f"{hour + 1:02}:00") for hour in range(8, 18)]
        return {
            "day": when,
            "free": [start for start, end in hours if all(end <= b["start"] or start >= b["end"] for b in busy)],
        }
