"""The app ``contacts``: people and groups."""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.worlds.apps.calling import day, paged, writes
from ferrule.worlds.apps.store import Id, Page, Row, Store, Text

__all__ = ["Contacts"]


@dataclass(frozen=True)
class Contacts:
    """People with their mail addresses, phone numbers, cities and birthdays, and groups of them."""

    store: Store

    def list(self, page: Page = 1) -> Row:
        """List all contacts, by name.

        Args:
            page: number of the page
        """
        return paged(self.store.rows("SELECT id, name, email FROM contacts ORDER BY name, id"), page)

    def search(self, query: Text, page: Page = 1) -> Row:
        """Find contacts by a part of the name, the mail address, the phone number or the city.

        Args:
            query: text to look for
            page: number of the page
        """
        contacts = self.store.rows(
            "SELECT id, name, email FROM contacts WHERE instr(lower(name || char(10) || email || char(10) || phone || "
            "char(10) || city), lower(?)) ORDER BY name, id",
            query.strip(),
        )
        return paged(contacts, page)

    def show(self, contact_id: Id) -> Row:
        """Show one contact in full: name, email, phone, city, birthday and groups.

        Args:
            contact_id: id of the contact
        """
        row = self.store.one("contacts", contact_id)
        groups = self.store.rows("SELECT label FROM members WHERE contact_id = ? ORDER BY label", contact_id)
        return {**row, "groups": [group["label"] for group in groups]}

    @writes
    def add(self, name: Text, email: Text, phone: Text = "", city: Text = "", birthday: Text = "") -> Row:
        """Add a contact and return its id.

        Args:
            name: full name
            email: mail address
            phone: phone number
            city: where they live
            birthday: date such as 1990-05-18
        """
        if self.store.rows("SELECT id FROM contacts WHERE email = ?", email.strip()):
            raise ValueError(f"there is a contact with the address {email!r} already")
        born = day(birthday) if birthday else ""
        contact_id = self.store.insert(
            "contacts", name=name.strip(), email=email.strip(), phone=phone.strip(), city=city.strip(), birthday=born
        )
        return {"contact_id": contact_id}

    @writes
    def update(
        self,
        contact_id: Id,
        name: Text | None = None,
        email: Text | None = None,
        phone: Text | None = None,
        city: Text | None = None,
    ) -> str:
        """Change what is given of a contact; the rest stays.

        Args:
            contact_id: id of the contact
            name: new full name
            email: new mail address
            phone: new phone number
            city: new city
        """
        self.store.one("contacts", contact_id)
        given = {"name": name, "email": email, "phone": phone, "city": city}
        self.store.update("contacts", contact_id, **{key: text.strip() for key, text in given.items() if text})
        return "updated"

    @writes
    def delete(self, contact_id: Id) -> str:
        """Delete a contact, also from all groups.

        Args:
            contact_id: id of the contact
        """
        self.store.one("contacts", contact_id)
        self.store.delete("members", contact_id=contact_id)
        self.store.delete("contacts", id=contact_id)
        return "deleted"

    def groups(self) -> Row:
        """List the groups with the number of their members."""
        return paged(
            self.store.rows('SELECT label AS "group", count(*) AS members FROM members GROUP BY label ORDER BY label'),
            1,
        )

    def members(self, group: Text, page: Page = 1) -> Row:
        """List the members of a group, by name.

        Args:
            group: name of the group
            page: number of the page
        """
        members = self.store.rows(
            "SELECT contacts.id, name, email FROM members JOIN contacts ON contacts.id = contact_id WHERE label = ? "
            "ORDER BY name, contacts.id",
            group.strip(),
        )
        if not members:
            raise LookupError(f"no group {group[:60]!r}")
        return paged(members, page)

    @writes
    def join(self, group: Text, contact_id: Id) -> str:
        """Put a contact into a group; the first member makes the group.

        Args:
            group: name of the group
            contact_id: id of the contact
        """
        self.store.one("contacts", contact_id)
        label = group.strip()
        if self.store.rows("SELECT id FROM members WHERE label = ? AND contact_id = ?", label, contact_id):
            raise ValueError(f"contact {contact_id} is a member of {label!r} already")
        self.store.insert("members", label=label, contact_id=contact_id)
        return "joined"

    @writes
    def leave(self, group: Text, contact_id: Id) -> str:
        """Take a contact out of a group.

        Args:
            group: name of the group
            contact_id: id of the contact
        """
        if not self.store.delete("members", label=group.strip(), contact_id=contact_id):
            raise LookupError(f"contact {contact_id} is no member of {group[:60]!r}")
        return "left"
