"""Seeded people and data of one task: names by split, everyday rows in all apps, and what a task adds to them."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ferrule.worlds.apps.store import TABLES, Row, Store

__all__ = ["Doing", "Maker", "Solve", "Template", "share"]

_FIRST = (
    "Ana", "Bo", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Nils", "Oda", "Pia",
    "Quin", "Rosa", "Sam", "Tara", "Udo", "Vera", "Wim", "Xenia", "Yann", "Zoe", "Alma", "Boris", "Cora", "Dario",
    "Elin", "Femi",
)  # fmt: skip
_LAST = (
    "Abel", "Berg", "Cruz", "Dahl", "Engel", "Falk", "Gomez", "Holm", "Ito", "Jansen", "Kaya", "Lund", "Moro",
    "Novak", "Okoye", "Pinto", "Quist", "Rossi", "Silva", "Thorn", "Ulrich", "Vogel", "Weiss", "Xu", "Yilmaz",
    "Zhang", "Adler", "Brandt", "Castro", "Drake", "Evans", "Fischer",
)  # fmt: skip
_CITY = (
    "Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris", "Tokyo", "Quito", "Bern", "Accra", "Porto", "Sofia", "Turin",
    "Lagos", "Hanoi", "Perth",
)  # fmt: skip
_KIND = (
    "Amber", "Blue", "Calm", "Dark", "Early", "Fresh", "Golden", "Hidden", "Icy", "Jolly", "Keen", "Light", "Mellow",
    "Narrow", "Olive", "Pale", "Quiet", "Rapid", "Silver", "Tidy", "Upper", "Violet", "Warm", "Young", "Azure",
    "Brave", "Clear", "Deep", "Eager", "Faint", "Grand", "High", "Inner", "Just", "Kind", "Late", "Mild", "Noble",
    "Outer", "Plain", "Round", "Soft", "Tall", "Urban", "Vivid", "Wild", "Crisp", "Dusty",
)  # fmt: skip
_NOUN = (
    "Anchor", "Bridge", "Candle", "Desk", "Engine", "Forest", "Garden", "Harbour", "Island", "Jacket", "Kettle",
    "Lantern", "Mirror", "Needle", "Orchard", "Pillow", "Quarry", "River", "Saddle", "Tunnel", "Umbrella", "Valley",
    "Window", "Yard", "Arrow", "Basket", "Carpet", "Drawer", "Easel", "Fountain", "Glove", "Hammer", "Inkwell", "Jug",
    "Kite", "Ladder", "Meadow", "Napkin", "Oven", "Pencil", "Quilt", "Ribbon", "Shelf", "Teapot", "Urn", "Vase",
    "Wagon", "Zither",
)  # fmt: skip
_CATEGORIES = ("bath", "kitchen", "office", "sports")
_GENRES = ("folk", "jazz", "rock", "soul")
GROUPS = ("family", "friends", "club", "choir", "team")


def share(words: Sequence[str], split: str) -> list[str]:
    """Return the words of a split: every fourth belongs to ``test``, the others to ``train``."""
    return [word for i, word in enumerate(words) if (i % 4 == 3) == (split == "test")]


class Maker:
    """Draws the rows of one task; ids are given at the end, in random order, so that they tell nothing.

    A value may be a row of another table: it becomes that row's id.
    """

    def __init__(self, key: str, split: str) -> None:
        """Draw the person whose apps these are, today's date, and everyday data."""
        self.rng = rng = random.Random(key)
        self.tables: dict[str, list[Row]] = {table: [] for table in TABLES}
        self._titles = self._mixed(share(_KIND, split), share(_NOUN, split))
        self._names = self._mixed(share(_FIRST, split), share(_LAST, split))
        self._phones = iter(rng.sample(range(1000, 10000), 60))
        self._cities, self._nouns = share(_CITY, split), share(_NOUN, split)
        self.artists = [f"The {noun}s" for noun in rng.sample(self._nouns, 4)]
        self._start = datetime.date(2026, 1, 1) + datetime.timedelta(rng.randrange(60, 300))
        name, email = self.stranger()
        self.me = {"name": name, "email": email}
        self.today = self.day(0)
        self._everyday()
        self._free = iter(rng.sample(self.tables["contacts"], len(self.tables["contacts"])))

    def _mixed(self, first: list[str], second: list[str]) -> Iterator[str]:
        size = len(first) * len(second)
        chosen = self.rng.sample(range(size), min(size, 144))
        return (f"{first[i // len(second)]} {second[i % len(second)]}" for i in chosen)

    def title(self) -> str:
        """Return two words that occur together nowhere else in the task."""
        return next(self._titles)

    def word(self) -> str:
        """Return a noun in lower case; it may come again."""
        return self.rng.choice(self._nouns).lower()

    def stranger(self) -> tuple[str, str]:
        """Return a new name and mail address."""
        name = next(self._names)
        return name, f"{name.lower().replace(' ', '.')}@mail.example"

    def friend(self) -> Row:
        """Return a contact that the task has not used yet."""
        return next(self._free)

    def day(self, offset: int) -> str:
        """Return the date so many days from today."""
        return (self._start + datetime.timedelta(offset)).isoformat()

    def phone(self) -> str:
        """Return a new phone number."""
        return f"555-{next(self._phones)}"

    def city(self) -> str:
        """Return a city."""
        return self.rng.choice(self._cities)

    def number(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        return self.rng.randint(low, high)

    def add(self, table: str, **values: Any) -> Row:
        """Add a row and return it."""
        self.tables[table].append(values)
        return values

    def contact(self) -> Row:
        """Add a contact."""
        name, email = self.stranger()
        born = datetime.date(1960, 1, 1) + datetime.timedelta(self.number(0, 15_000))
        row = {"name": name, "email": email, "phone": self.phone(), "city": self.city(), "birthday": born.isoformat()}
        return self.add("contacts", **row)

    def group(self, size: int) -> tuple[str, list[Row]]:
        """Add a group of unused contacts under a name that no other group has."""
        used = {row["label"] for row in self.tables["members"]}
        label = self.rng.choice([name for name in GROUPS if name not in used])
        members = [self.friend() for _ in range(size)]
        for member in members:
            self.add("members", label=label, contact_id=member)
        return label, members

    def mail(self, sender: str, subject: str = "", body: str = "", folder: str = "inbox") -> Row:
        """Add a mail that was received, or that was sent when ``folder`` is so."""
        ends = (sender, self.me["email"]) if folder != "sent" else (self.me["email"], sender)
        return self.add(
            "mails",
            folder=folder,
            sender=ends[0],
            recipient=ends[1],
            subject=subject or self.title(),
            body=body or f"About the {self.word()}: let us talk on {self.day(self.number(1, 20))}.",
            sent_on=self.day(-self.number(1, 40)),
            read=self.number(0, 1),
            starred=int(self.number(0, 5) == 0),
            label="",
        )

    def event(self, title: str = "", day: str = "") -> Row:
        """Add an event of one or two hours."""
        start = self.number(8, 15)
        return self.add(
            "events",
            title=title or self.title(),
            day=day or self.day(self.number(-10, 30)),
            start=f"{start:02}:00",
            end=f"{start + self.number(1, 2):02}:00",
            place=self.city(),
        )

    def note(self, title: str = "", body: str = "", lines: Sequence[tuple[str, int]] = ()) -> Row:
        """Add a note with the lines of a check list (text and whether it is done)."""
        tag = self.rng.choice(("", "ideas", "home"))
        text = body or f"Remember the {self.word()}."
        note = self.add("notes", title=title or self.title(), body=text, tag=tag, pinned=int(self.number(0, 4) == 0))
        for line, done in lines:
            self.add("lines", note_id=note, text=line, done=done)
        return note

    def product(self, category: str = "", price: int = 0, rating: int = 0) -> Row:
        """Add a product."""
        return self.add(
            "products",
            name=self.title(),
            category=category or self.rng.choice(_CATEGORIES),
            price=price or self.number(4, 90),
            rating=rating or self.number(1, 5),
            stock=self.number(3, 40),
        )

    def order(self, products: Sequence[Row], status: str, day: str) -> Row:
        """Add an order of one piece each."""
        total = sum(product["price"] for product in products)
        order = self.add("orders", day=day, total=total, status=status, card_id=self.rng.choice(self.tables["cards"]))
        for product in products:
            self.add("bought", order_id=order, product_id=product, quantity=1, price=product["price"])
        return order

    def song(self, title: str = "", artist: str = "", genre: str = "", liked: int | None = None) -> Row:
        """Add a song."""
        return self.add(
            "songs",
            title=title or self.title(),
            artist=artist or self.rng.choice(self.artists),
            genre=genre or self.rng.choice(_GENRES),
            seconds=self.number(100, 400),
            liked=int(self.number(0, 3) == 0) if liked is None else liked,
        )

    def playlist(self, songs: Sequence[Row], title: str = "") -> Row:
        """Add a playlist."""
        playlist = self.add("playlists", title=title or self.title())
        for song in songs:
            self.add("tracks", playlist_id=playlist, song_id=song)
        return playlist

    def file(self, content: str = "", folder: str = "/docs") -> Row:
        """Add a file."""
        path = f"{folder}/{self.title().lower().replace(' ', '-')}.txt"
        return self.add("files", path=path, content=content or f"Draft about the {self.word()}.")

    def transfer(self, direction: str, email: str, amount: int, day: str) -> Row:
        """Add a transfer."""
        return self.add("transfers", direction=direction, email=email, amount=amount, note=self.word(), day=day)

    def request(self, direction: str, email: str, day: str, status: str = "open", amount: int = 0) -> Row:
        """Add a request for money."""
        many, note = amount or self.number(5, 60), self.word()
        return self.add("requests", direction=direction, email=email, amount=many, note=note, day=day, status=status)

    def _everyday(self) -> None:
        """Fill all apps with rows that no task asks about."""
        rng = self.rng
        people = [self.contact() for _ in range(14)]
        for label in rng.sample(GROUPS, 2):
            for member in rng.sample(people, self.number(2, 4)):
                self.add("members", label=label, contact_id=member)
        for i in range(18):
            self.mail(
                rng.choice(people)["email"], folder=("inbox", "inbox", "inbox", "archive", "sent", "inbox")[i % 6]
            )
        for _ in range(8):
            event = self.event()
            for guest in rng.sample(people, self.number(0, 2)):
                self.add("guests", event_id=event, email=guest["email"])
        for i in range(6):
            self.note(lines=[(self.title(), self.number(0, 1)) for _ in range(3)] if i % 3 == 0 else ())
        products = [self.product() for _ in range(12)]
        for product in rng.sample(products, 2):
            self.add("wishes", product_id=product)
            self.add("reviews", product_id=product, stars=self.number(1, 5), text="As described.")
        self.add("wallet", balance=self.number(2000, 4000))
        for name in rng.sample(("Visa", "Debit", "Travel", "Store"), 2):
            self.add("cards", name=name, spent=self.number(0, 900))
        for status in ("delivered", "ordered", "cancelled"):
            self.order(rng.sample(products, 2), status, self.day(-self.number(20, 60)))
        for _ in range(10):
            friend, direction = rng.choice(people)["email"], rng.choice(("sent", "received"))
            self.transfer(direction, friend, self.number(5, 90), self.day(-self.number(1, 90)))
        for status in ("paid", "declined", "cancelled", "paid"):
            direction = rng.choice(("sent", "received"))
            self.request(direction, rng.choice(people)["email"], self.day(-self.number(1, 60)), status)
        songs = [self.song() for _ in range(14)]
        for _ in range(2):
            self.playlist(rng.sample(songs, 3))
        self.add("following", artist=rng.choice(self.artists))
        for folder in ("/docs", "/docs", "/work", "/work", "/home", "/home"):
            self.file(folder=folder)

    def store(self) -> Store:
        """Return a fresh database with all rows."""
        return Store(self.me, self.today, self.tables)

    def close(self) -> None:
        """Give the rows ids, in random order, and put ids in the place of the rows that other rows name."""
        for rows in self.tables.values():
            self.rng.shuffle(rows)
            for id, row in enumerate(rows, start=1):
                row["id"] = id
        for rows in self.tables.values():
            for row in rows:
                row.update({name: value["id"] for name, value in row.items() if isinstance(value, dict)})


class Doing:
    """What a reference program acts with: calls of the APIs, all pages of a list, and entries by name."""

    def __init__(self, call: Callable[[str, Mapping[str, Any]], Any]) -> None:
        """Take what runs one call and returns its data."""
        self._call = call

    def __call__(self, api: str, **arguments: Any) -> Any:
        """Run one call."""
        return self._call(api, arguments)

    def every(self, api: str, **arguments: Any) -> list[Any]:
        """Return the entries of all pages."""
        first = self(api, **arguments)
        items = list(first["items"])
        for page in range(2, first["pages"] + 1):
            items += self(api, **arguments, page=page)["items"]
        return items

    def one(self, api: str, text: str, field: str = "title", **wanted: Any) -> Row:
        """Search for a text and return the one entry whose ``field`` is that text, and whose other fields fit."""
        wanted = {field: text, **wanted}
        matches = [
            row for row in self.every(api, query=text) if all(row[key] == value for key, value in wanted.items())
        ]
        if len(matches) != 1:
            raise LookupError(f"{api} found {len(matches)} entries for {wanted}")
        return dict(matches[0])

    def person(self, name: str) -> Row:
        """Return id, name and mail address of a contact."""
        return self.one("contacts_search", name, "name")

    def card(self, name: str) -> int:
        """Return the id of a card."""
        return next(int(card["id"]) for card in self("payments_cards")["items"] if card["name"] == name)


Solve: TypeAlias = Callable[[Doing], Any]
"""A reference program: does what the task asks by calls alone and returns the answer, None where none is asked for."""


@dataclass(frozen=True)
class Template:
    """A kind of task: the apps it needs, and what adds its rows and returns its text and reference program.

    ``held`` keeps the template for the test split; ``loose`` names columns whose text is left to the agent in new rows.
    """

    name: str
    apps: tuple[str, ...]
    make: Callable[[Maker], tuple[str, Solve]]
    held: bool = False
    loose: frozenset[tuple[str, str]] = frozenset()
