"""Tasks of level 2: two apps, something is found in one and used in the other."""

from __future__ import annotations

from typing import Any

from ferrule.worlds.apps.making import Doing, Maker, Solve, Template

__all__ = ["LEVEL_2"]

Made = tuple[str, Solve]


def _pay_by_name(m: Maker) -> Made:
    name, amount, note = m.friend()["name"], m.number(5, 80), m.title().lower()

    def solve(do: Doing) -> None:
        do("payments_send", email=do.person(name)["email"], amount=amount, note=note)

    return f'Send {amount} dollars to {name} with the note "{note}".', solve


def _mail_phone(m: Maker) -> Made:
    to, whose, subject = m.friend()["name"], m.friend()["name"], m.title()

    def solve(do: Doing) -> None:
        phone = do("contacts_show", contact_id=do.person(whose)["id"])["phone"]
        do("mail_send", to=do.person(to)["email"], subject=subject, body=phone)

    text = f'Mail {to} the phone number of {whose}: subject "{subject}", the number alone as the body.'
    return text, solve


def _note_to_event(m: Maker) -> Made:
    hour = m.number(8, 16)
    facts = {"day": m.day(m.number(2, 30)), "start": f"{hour:02}:00", "end": f"{hour + 1:02}:30", "place": m.city()}
    title = m.note(body="\n".join(f"{key}: {value}" for key, value in facts.items()))["title"]

    def solve(do: Doing) -> None:
        body = do("notes_show", note_id=do.one("notes_search", title)["id"])["body"]
        do("calendar_add", title=title, **dict(line.split(": ") for line in body.splitlines()))

    text = (
        f'My note "{title}" says when and where something takes place. Put it into my calendar, titled like the note.'
    )
    return text, solve


def _invite_group(m: Maker) -> Made:
    label, _ = m.group(m.number(3, 4))
    title = m.event()["title"]

    def solve(do: Doing) -> None:
        event = do.one("calendar_search", title)["id"]
        for member in do.every("contacts_members", group=label):
            do("calendar_invite", event_id=event, email=member["email"])

    return f'Invite everybody in my contact group "{label}" to the event "{title}".', solve


def _list_to_cart(m: Maker) -> Made:
    names = [m.product()["name"] for _ in range(5)]
    title = m.note(lines=[(name, int(i >= 3)) for i, name in enumerate(names)])["title"]

    def solve(do: Doing) -> None:
        note = do("notes_show", note_id=do.one("notes_search", title)["id"])
        for line in note["lines"]:
            if not line["done"]:
                do("shop_cart_add", product_id=do.one("shop_search", line["text"], "name")["id"])

    text = f'Put one of each product into the shopping cart that is on my list "{title}" and not marked as done.'
    return text, solve


def _playlist_from_file(m: Maker) -> Made:
    songs = [m.song()["title"] for _ in range(m.number(3, 4))]
    path, title = m.file("\n".join(songs))["path"], m.title()

    def solve(do: Doing) -> None:
        wanted = do("files_show", path=path)["content"].splitlines()
        playlist = do("music_create", title=title)["playlist_id"]
        for song in wanted:
            do("music_add", playlist_id=playlist, song_id=do.one("music_search", song)["id"])

    return f'The file {path} lists songs, one a line. Make a playlist "{title}" of them.', solve


def _pay_bill(m: Maker) -> Made:
    friend, amount = m.friend(), m.number(10, 90)
    decoy, name = m.friend(), friend["name"]
    subject = m.mail(friend["email"], body=f"Hello, your share is {amount} dollars. Thank you!")["subject"]
    m.mail(decoy["email"], subject, body=f"Hello, your share is {amount + m.number(1, 9)} dollars. Thank you!")

    def solve(do: Doing) -> Any:
        email = do.person(name)["email"]
        mail = do.one("mail_search", subject, "subject", sender=email)
        share = next(int(word) for word in do("mail_show", mail_id=mail["id"])["body"].split() if word.isdigit())
        do("payments_send", email=email, amount=share, note=subject)
        return share

    text = (
        f'{name} sent me a mail with the subject "{subject}" that says what I owe. Pay it to the address it came from, '
        "with the subject as the note. How many dollars was it?"
    )
    return text, solve


def _orders_to_file(m: Maker) -> Made:
    for _ in range(2):
        m.order(m.rng.sample(m.tables["products"], 2), "delivered", m.day(-m.number(1, 15)))
    path = f"/reports/{m.title().lower().replace(' ', '-')}.txt"

    def solve(do: Doing) -> None:
        total = sum(order["total"] for order in do.every("shop_orders") if order["status"] == "delivered")
        do("files_write", path=path, content=str(total))

    text = f"Write the sum of the totals of all my delivered shop orders to the new file {path}, the number alone."
    return text, solve


def _add_sender(m: Maker) -> Made:
    name, email = m.stranger()
    phone, city = m.phone(), m.city()
    subject = m.mail(email, body=f"We met last week.\nphone: {phone}\ncity: {city}")["subject"]

    def solve(do: Doing) -> None:
        mail = do("mail_show", mail_id=do.one("mail_search", subject, "subject")["id"])
        facts = dict(line.split(": ") for line in mail["body"].splitlines()[1:])
        do("contacts_add", name=name, email=mail["sender"], **facts)

    text = f'{name} sent me the mail "{subject}". Add {name} to my contacts with mail address, phone number and city.'
    return text, solve


def _birthday_event(m: Maker) -> Made:
    name, year = m.friend()["name"], int(m.today[:4]) + 1
    title = f"Birthday of {name}"

    def solve(do: Doing) -> None:
        born = do("contacts_show", contact_id=do.person(name)["id"])["birthday"]
        # Somebody who was born on a 29 February celebrates on the 28th.
        day = f"{year}{born[4:]}".replace("-02-29", "-02-28")
        do("calendar_add", title=title, day=day, start="18:00", end="20:00")

    text = (
        f'Put "{title}" into my calendar on the birthday of {name} in {year}, from 18:00 to 20:00, without a place '
        "(for a 29 February take the 28th)."
    )
    return text, solve


def _mail_to_file(m: Maker) -> Made:
    friend, path = m.friend(), f"/mails/{m.title().lower().replace(' ', '-')}.txt"
    mail = m.mail(friend["email"])
    subject, email = mail["subject"], friend["email"]
    m.mail(m.friend()["email"], subject)

    def solve(do: Doing) -> None:
        mail_id = do.one("mail_search", subject, "subject", sender=email)["id"]
        do("files_write", path=path, content=do("mail_show", mail_id=mail_id)["body"])

    return f'Save the body of the mail "{subject}" from {email} as the new file {path}.', solve


LEVEL_2 = (
    Template("pay_by_name", ("contacts", "payments"), _pay_by_name),
    Template("mail_phone", ("contacts", "mail"), _mail_phone),
    Template("note_to_event", ("notes", "calendar"), _note_to_event),
    Template("invite_group", ("contacts", "calendar"), _invite_group),
    Template("list_to_cart", ("notes", "shop"), _list_to_cart),
    Template("playlist_from_file", ("files", "music"), _playlist_from_file),
    Template("pay_bill", ("contacts", "mail", "payments"), _pay_bill),
    Template("orders_to_file", ("shop", "files"), _orders_to_file),
    Template("add_sender", ("mail", "contacts"), _add_sender),
    Template("birthday_event", ("contacts", "calendar"), _birthday_event, held=True),
    Template("mail_to_file", ("mail", "files"), _mail_to_file, held=True),
)
