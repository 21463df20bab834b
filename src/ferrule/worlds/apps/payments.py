"""The app ``payments``: a wallet, transfers, requests for money, and cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ferrule.worlds.apps.calling import day as checked_day
from ferrule.worlds.apps.calling import paged, writes
from ferrule.worlds.apps.store import Id, Page, Row, Store, Text

__all__ = ["Payments"]

Direction = Literal["sent", "received"]
Status = Literal["open", "paid", "declined", "cancelled"]
Amount = Annotated[int, Field(ge=1, le=100_000)]


@dataclass(frozen=True)
class Payments:
    """A wallet in whole dollars: send money to a mail address, ask for money, answer such requests, use cards."""

    store: Store

    def balance(self) -> Row:
        """Tell how much is in the wallet."""
        return {"balance": self.store.one("wallet", 1)["balance"]}

    def cards(self) -> Row:
        """List the cards with what was spent with them."""
        return paged(self.store.rows("SELECT * FROM cards ORDER BY id"), 1)

    def transfers(
        self,
        direction: Direction | None = None,
        email: Text | None = None,
        first: Text | None = None,
        last: Text | None = None,
        page: Page = 1,
    ) -> Row:
        """List transfers, the newest first.

        Args:
            direction: only money that was sent, or that was received
            email: only with this mail address
            first: earliest day, such as 2026-05-18
            last: latest day
            page: number of the page
        """
        low, high = checked_day(first) if first else "", checked_day(last) if last else "9"
        transfers = self.store.rows(
            "SELECT * FROM transfers WHERE (? IS NULL OR direction = ?) AND (? IS NULL OR email = ?) AND day >= ? "
            "AND day <= ? ORDER BY day DESC, id DESC",
            direction,
            direction,
            email,
            email,
            low,
            high,
        )
        return paged(transfers, page)

    def _pay(self, email: str, amount: int, note: str) -> int:
        balance = self.store.one("wallet", 1)["balance"]
        if amount > balance:
            raise ValueError(f"the wallet holds only {balance}")
        if "@" not in email:
            raise ValueError(f"{email[:60]!r} is not a mail address")
        self.store.update("wallet", 1, balance=balance - amount)
        return self.store.insert(
            "transfers", direction="sent", email=email.strip(), amount=amount, note=note.strip(), day=self.store.today
        )

    @writes
    def send(self, email: Text, amount: Amount, note: Text = "") -> Row:
        """Send money from the wallet.

        Args:
            email: mail address of who gets it
            amount: whole dollars
            note: what it is for
        """
        return {"transfer_id": self._pay(email, amount, note)}

    @writes
    def request(self, email: Text, amount: Amount, note: Text = "") -> Row:
        """Ask somebody for money.

        Args:
            email: mail address of who should pay
            amount: whole dollars
            note: what it is for
        """
        if "@" not in email:
            raise ValueError(f"{email[:60]!r} is not a mail address")
        request_id = self.store.insert(
            "requests",
            direction="sent",
            email=email.strip(),
            amount=amount,
            note=note.strip(),
            day=self.store.today,
            status="open",
        )
        return {"request_id": request_id}

    def requests(self, direction: Direction = "received", status: Status | None = "open", page: Page = 1) -> Row:
        """List requests for money, the newest first.

        Args:
            direction: those that you received, or that you sent
            status: only those of this status; null for all
            page: number of the page
        """
        requests = self.store.rows(
            "SELECT * FROM requests WHERE direction = ? AND (? IS NULL OR status = ?) ORDER BY day DESC, id DESC",
            direction,
            status,
            status,
        )
        return paged(requests, page)

    def _open(self, request_id: int, direction: str) -> Row:
        row = self.store.one("requests", request_id)
        if (row["direction"], row["status"]) != (direction, "open"):
            raise ValueError(f"request {request_id} was {row['direction']} and is {row['status']}")
        return row

    @writes
    def accept(self, request_id: Id) -> str:
        """Pay a request that you received; its note becomes the note of the transfer.

        Args:
            request_id: id of the request
        """
        row = self._open(request_id, "received")
        self._pay(row["email"], row["amount"], row["note"])
        self.store.update("requests", request_id, status="paid")
        return "paid"

    @writes
    def decline(self, request_id: Id) -> str:
        """Decline a request that you received.

        Args:
            request_id: id of the request
        """
        self._open(request_id, "received")
        self.store.update("requests", request_id, status="declined")
        return "declined"

    @writes
    def cancel(self, request_id: Id) -> str:
        """Cancel a request that you sent.

        Args:
            request_id: id of the request
        """
        self._open(request_id, "sent")
        self.store.update("requests", request_id, status="cancelled")
        return "cancelled"

    @writes
    def deposit(self, card_id: Id, amount: Amount) -> str:
        """Put money from a card into the wallet.

        Args:
            card_id: id of the card
            amount: whole dollars
        """
        card, balance = self.store.one("cards", card_id), self.store.one("wallet", 1)["balance"]
        self.store.update("cards", card_id, spent=card["spent"] + amount)
        self.store.update("wallet", 1, balance=balance + amount)
        return f"the wallet holds {balance + amount}"
