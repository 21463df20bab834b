"""Tasks of level 1: one app, one to three calls."""

from __future__ import annotations

from typing import Any

from ferrule.worlds.apps.making import Doing, Maker, Solve, Template

__all__ = ["LEVEL_1"]

Made = tuple[str, Solve]


def _send_mail(m: Maker) -> Made:
    to, subject, body = m.friend()["email"], m.title(), f"The {m.title().lower()} is ready."

    def solve(do: Doing) -> None:
        do("mail_send", to=to, subject=subject, body=body)

    return f'Send a mail to {to} with the subject "{subject}" and the body "{body}"', solve


def _thank(m: Maker) -> Made:
    to, subject = m.friend()["email"], m.title()

    def solve(do: Doing) -> None:
        do("mail_send", to=to, subject=subject, body="Thank you very much!")

    return f'Thank {to} by mail with the subject "{subject}", in your own words.', solve


def _phone_number(m: Maker) -> Made:
    name = m.friend()["name"]

    def solve(do: Doing) -> Any:
        return do("contacts_show", contact_id=do.person(name)["id"])["phone"]

    return f"What is the phone number of {name}?", solve


def _add_event(m: Maker) -> Made:
    title, day, place, hour = m.title(), m.day(m.number(1, 30)), m.city(), m.number(8, 18)
    start, end = f"{hour:02}:30", f"{hour + 2:02}:00"

    def solve(do: Doing) -> None:
        do("calendar_add", title=title, day=day, start=start, end=end, place=place)

    return f'Put "{title}" into my calendar: on {day} from {start} to {end}, place {place}.', solve


def _delete_note(m: Maker) -> Made:
    title = m.note()["title"]
    m.note(f"{title} copy")

    def solve(do: Doing) -> None:
        do("notes_delete", note_id=do.one("notes_search", title)["id"])

    return f'Delete my note with the title "{title}".', solve


def _price(m: Maker) -> Made:
    name = m.product()["name"]

    def solve(do: Doing) -> Any:
        return do.one("shop_search", name, "name")["price"]

    return f"How many dollars does the {name} cost in the shop?", solve


def _send_money(m: Maker) -> Made:
    email, amount, note = m.friend()["email"], m.number(5, 80), m.title().lower()

    def solve(do: Doing) -> None:
        do("payments_send", email=email, amount=amount, note=note)

    return f'Send {amount} dollars to {email} with the note "{note}".', solve


def _like_song(m: Maker) -> Made:
    artist, decoy = m.rng.sample(m.artists, 2)
    title = m.song(artist=artist, liked=0)["title"]
    m.song(title, decoy, liked=0)

    def solve(do: Doing) -> None:
        do("music_like", song_id=do.one("music_search", title, artist=artist)["id"])

    return f'Like the song "{title}" by {artist}.', solve


def _move_file(m: Maker) -> Made:
    path = m.file(folder="/home")["path"]
    to = path.replace("/home/", "/archive/")

    def solve(do: Doing) -> None:
        do("files_move", path=path, to=to)

    return f"Move the file {path} to {to}.", solve


def _star_mail(m: Maker) -> Made:
    sender, decoy = m.friend()["email"], m.friend()["email"]
    mail = m.mail(sender)
    mail["starred"] = 0
    m.mail(decoy, mail["subject"])["starred"] = 0

    def solve(do: Doing) -> None:
        do("mail_star", mail_id=do.one("mail_search", mail["subject"], "subject", sender=sender)["id"])

    return f'Star the mail "{mail["subject"]}" that {sender} sent me.', solve


def _check_line(m: Maker) -> Made:
    lines = [m.title() for _ in range(4)]
    title = m.note(lines=[(line, 0) for line in lines])["title"]
    chosen = m.rng.choice(lines)

    def solve(do: Doing) -> None:
        note = do("notes_show", note_id=do.one("notes_search", title)["id"])
        do("notes_line_check", line_id=next(line["id"] for line in note["lines"] if line["text"] == chosen))

    return f'Mark the line "{chosen}" of my note "{title}" as done.', solve


def _create_playlist(m: Maker) -> Made:
    title = m.title()

    def solve(do: Doing) -> None:
        do("music_create", title=title)

    return f'Make an empty playlist with the title "{title}".', solve


def _update_city(m: Maker) -> Made:
    friend = m.friend()
    name, city = friend["name"], f"New {friend['city']}"

    def solve(do: Doing) -> None:
        do("contacts_update", contact_id=do.person(name)["id"], city=city)

    return f"{name} has moved to {city}. Put that into my contacts.", solve


LEVEL_1 = (
    Template("send_mail", ("mail",), _send_mail),
    Template("thank", ("mail",), _thank, loose=frozenset({("mails", "body")})),
    Template("phone_number", ("contacts",), _phone_number),
    Template("add_event", ("calendar",), _add_event),
    Template("delete_note", ("notes",), _delete_note),
    Template("price", ("shop",), _price),
    Template("send_money", ("payments",), _send_money),
    Template("like_song", ("music",), _like_song),
    Template("move_file", ("files",), _move_file),
    Template("star_mail", ("mail",), _star_mail),
    Template("check_line", ("notes",), _check_line),
    Template("create_playlist", ("music",), _create_playlist, held=True),
    Template("update_city", ("contacts",), _update_city, held=True),
)
