"""Tasks of level 3: three apps and more, with lists to go through, conditions and sums."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ferrule.worlds.apps.making import Doing, Maker, Solve, Template

__all__ = ["LEVEL_3"]

Made = tuple[str, Solve]


def _split_bill(m: Maker) -> Made:
    guests, each = [m.friend()["email"] for _ in range(m.number(2, 4))], m.number(8, 40)
    event = m.event(day=m.day(-m.number(1, 9)))
    for guest in guests:
        m.add("guests", event_id=event, email=guest)
    title, note = event["title"], m.note(body=f"paid: {each * (len(guests) + 1)} dollars")["title"]

    def solve(do: Doing) -> Any:
        paid = int(do("notes_show", note_id=do.one("notes_search", note)["id"])["body"].split()[1])
        invited = do("calendar_show", event_id=do.one("calendar_search", title)["id"])["guests"]
        share = paid // (len(invited) + 1)
        for email in invited:
            do("payments_request", email=email, amount=share, note=title)
        return share

    text = (
        f'I paid for everybody at "{title}"; my note "{note}" says how much. Split it evenly among the guests of that '
        "event in my calendar and me, and request from each guest their share with the title of the event as the note. "
        "How many dollars is one share?"
    )
    return text, solve


def _settle_requests(m: Maker) -> Made:
    label, members = m.group(3)
    others = [m.friend() for _ in range(2)]
    for friend in (*members, members[0], *others):
        m.request("received", friend["email"], m.day(-m.number(1, 20)))
    title = m.title()

    def solve(do: Doing) -> None:
        known = {member["email"] for member in do.every("contacts_members", group=label)}
        total = 0
        for request in do.every("payments_requests", direction="received"):
            good = request["email"] in known
            do("payments_accept" if good else "payments_decline", request_id=request["id"])
            total += request["amount"] if good else 0
        do("notes_add", title=title, body=str(total))

    text = (
        f'Accept all open payment requests that I received from members of my contact group "{label}" and decline '
        f'those from anybody else. Then add a note "{title}" without a tag whose text is the sum I paid, the number '
        "alone."
    )
    return text, solve


def _top_artist(m: Maker) -> Made:
    top, second = m.rng.sample(m.artists, 2)
    m.tables["following"].clear()
    m.add("following", artist=second)
    m.tables["tracks"].clear()
    for playlist in list(m.tables["playlists"]):
        for artist, count in ((top, 3), (second, 2)):
            for _ in range(count):
                m.add("tracks", playlist_id=playlist, song_id=m.song(artist=artist))
    name, subject = m.friend()["name"], m.title()

    def solve(do: Doing) -> None:
        counts: Counter[str] = Counter()
        for playlist in do.every("music_playlists"):
            counts.update(song["artist"] for song in do("music_playlist", playlist_id=playlist["id"])["songs"])
        ((best, _),) = counts.most_common(1)
        do("music_follow", artist=best)
        do("mail_send", to=do.person(name)["email"], subject=subject, body=best)

    text = (
        "Find the artist with the most songs in all my playlists together and follow them. Then mail the artist's name "
        f'to {name}: subject "{subject}", the name alone as the body.'
    )
    return text, solve


def _reorder(m: Maker) -> Made:
    products = [m.product(price=price) for price in m.rng.sample(range(5, 50), 4)]
    limit = sorted(product["price"] for product in products)[2]
    m.order(products, "delivered", m.day(-m.number(1, 9)))
    m.order(m.rng.sample(m.tables["products"], 2), "delivered", m.day(-m.number(12, 19)))
    card, name, subject = m.rng.choice(m.tables["cards"])["name"], m.friend()["name"], m.title()

    def solve(do: Doing) -> None:
        last = next(order for order in do.every("shop_orders") if order["status"] == "delivered")
        for item in do("shop_order", order_id=last["id"])["items"]:
            if item["price"] <= limit:
                do("shop_cart_add", product_id=item["product_id"])
        total = do("shop_checkout", card_id=do.card(card))["total"]
        do("mail_send", to=do.person(name)["email"], subject=subject, body=str(total))

    text = (
        f"Take my latest delivered shop order and order again, one of each, what cost at most {limit} dollars in it. "
        f'Pay with the card "{card}". Then mail the total of the new order to {name}: subject "{subject}", the number '
        "alone as the body."
    )
    return text, solve


def _plan_meeting(m: Maker) -> Made:
    label, _ = m.group(3)
    day, title = m.day(m.number(31, 60)), m.title()
    for hour in [*m.rng.sample(range(8, 18), 4), 8]:
        event = m.event(day=day)
        event.update(start=f"{hour:02}:00", end=f"{hour + 1:02}:00")

    def solve(do: Doing) -> Any:
        start = do("calendar_free", day=day)["free"][0]
        event = do("calendar_add", title=title, day=day, start=start, end=f"{int(start[:2]) + 1:02}:00")["event_id"]
        for member in do.every("contacts_members", group=label):
            do("calendar_invite", event_id=event, email=member["email"])
            do("mail_send", to=member["email"], subject=title, body=start)
        return start

    text = (
        f'Find the first free full hour between 08:00 and 18:00 on {day} and put the event "{title}" there, without a '
        f'place. Invite everybody in my contact group "{label}" and mail each of them: subject "{title}", the time it '
        "starts (like 09:00) alone as the body. When does it start?"
    )
    return text, solve


def _spending_report(m: Maker) -> Made:
    first, last = m.day(-130), m.day(-101)
    friends = [m.friend() for _ in range(3)]
    for friend in (*friends, friends[0], friends[1]):
        m.transfer("sent", friend["email"], m.number(5, 90), m.day(-m.number(101, 130)))
    m.transfer("received", friends[0]["email"], m.number(5, 90), m.day(-m.number(101, 130)))
    m.transfer("sent", friends[2]["email"], m.number(5, 90), m.day(-m.number(131, 140)))
    path = f"/reports/{m.title().lower().replace(' ', '-')}.csv"

    def solve(do: Doing) -> None:
        sums: Counter[str] = Counter()
        for transfer in do.every("payments_transfers", direction="sent", first=first, last=last):
            sums[transfer["email"]] += transfer["amount"]
        names = {email: do.one("contacts_search", email, "email")["name"] for email in sums}
        rows = sorted(f"{names[email]},{total}" for email, total in sums.items())
        do("files_write", path=path, content="\n".join(rows))

    text = (
        f"Write how much money I sent to whom from {first} to {last} (both included) to the new file {path}: one line "
        "per person, the name as in my contacts, a comma and the sum without a space, in alphabetical order."
    )
    return text, solve


def _archive_group(m: Maker) -> Made:
    label, members = m.group(3)
    for member in (*members, members[0], members[1]):
        m.mail(member["email"])
    title = m.title()

    def solve(do: Doing) -> None:
        known = {member["email"] for member in do.every("contacts_members", group=label)}
        mails = [mail for mail in do.every("mail_list") if mail["sender"] in known]
        for mail in mails:
            do("mail_label", mail_id=mail["id"], label=label)
            do("mail_move", mail_id=mail["id"], folder="archive")
        do("notes_add", title=title, body=str(len(mails)))

    text = (
        f'Give every mail in my inbox from members of my contact group "{label}" the label "{label}" and move it to '
        f'the archive. Then add a note "{title}" without a tag whose text is the number of those mails.'
    )
    return text, solve


def _best_gift(m: Maker) -> Made:
    category, price = "gifts", 2 * m.number(6, 20)
    for cost, rating in ((price, 4), (price + 6, 5), (price - 3, 3), (price + 1, 4), (price - 5, 2)):
        m.product(category, cost, rating)
    card, name = m.rng.choice(m.tables["cards"])["name"], m.friend()["name"]

    def solve(do: Doing) -> Any:
        offered = do.every("shop_search", category=category, sort="price")
        best = next(product for product in offered if product["rating"] >= 4)
        do("shop_cart_add", product_id=best["id"])
        do("shop_checkout", card_id=do.card(card))
        half = best["price"] // 2
        do("payments_request", email=do.person(name)["email"], amount=half, note=best["name"])
        return best["name"]

    text = (
        f'Order the cheapest product of the shop\'s category "{category}" that is rated 4 or better, and pay with the '
        f'card "{card}". Then request half of its price from {name} with the name of the product as the note. What is '
        "the product called?"
    )
    return text, solve


def _party_playlist(m: Maker) -> Made:
    genre, event, title = "swing", m.event(), m.title()
    for liked in (1, 1, 1, 0, 0):
        m.song(genre=genre, liked=liked)
    for _ in range(m.number(2, 3)):
        m.add("guests", event_id=event, email=m.friend()["email"])
    party = event["title"]

    def solve(do: Doing) -> None:
        songs = [song for song in do.every("music_liked") if song["genre"] == genre]
        playlist = do("music_create", title=title)["playlist_id"]
        for song in songs:
            do("music_add", playlist_id=playlist, song_id=song["id"])
        for email in do("calendar_show", event_id=do.one("calendar_search", party)["id"])["guests"]:
            do("mail_send", to=email, subject=title, body=str(len(songs)))

    text = (
        f'Make a playlist "{title}" of all songs of the genre "{genre}" that I like. Then mail every guest of my event '
        f'"{party}": subject "{title}", the number of songs in the playlist alone as the body.'
    )
    return text, solve


def _remind_debtors(m: Maker) -> Made:
    limit, title = m.day(-30), m.title()
    for offset in (-45, -38, -31, -30, -12):
        m.request("sent", m.friend()["email"], m.day(offset))

    def solve(do: Doing) -> None:
        note = do("notes_add", title=title)["note_id"]
        for request in do.every("payments_requests", direction="sent"):
            if request["day"] < limit:
                name = do.one("contacts_search", request["email"], "email")["name"]
                do("mail_send", to=request["email"], subject=title, body=str(request["amount"]))
                do("notes_line_add", note_id=note, text=name)

    text = (
        f"For every open payment request that I sent before {limit} (not on that day), mail the person: subject "
        f'"{title}", the amount alone as the body. Also add a note "{title}" without text and tag, with a check list '
        "that has one line per such request, not done, with the person's name as in my contacts."
    )
    return text, solve


LEVEL_3 = (
    Template("split_bill", ("notes", "calendar", "payments"), _split_bill),
    Template("settle_requests", ("contacts", "payments", "notes"), _settle_requests),
    Template("top_artist", ("music", "contacts", "mail"), _top_artist),
    Template("reorder", ("shop", "payments", "contacts", "mail"), _reorder),
    Template("plan_meeting", ("calendar", "contacts", "mail"), _plan_meeting),
    Template("spending_report", ("payments", "contacts", "files"), _spending_report),
    Template("archive_group", ("mail", "contacts", "notes"), _archive_group),
    Template("best_gift", ("shop", "payments", "contacts"), _best_gift),
    Template("party_playlist", ("music", "calendar", "mail"), _party_playlist, held=True),
    Template("remind_debtors", ("payments", "contacts", "mail", "notes"), _remind_debtors, held=True),
)
