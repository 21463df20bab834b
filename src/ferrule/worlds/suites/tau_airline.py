"""The desk of the airline of tau-bench: what an agent may search, book, change and cancel."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from datetime import date as Date
from datetime import timedelta
from typing import Any, Literal, TypedDict

from ferrule.worlds.suites.records import Records, writes
from ferrule.worlds.suites.tau_desk import HANDED_OVER, balance, method_of, pay, total

__all__ = ["Airline", "Flown", "Passenger", "Payment"]

Row = Mapping[str, Any]
Cabin = Literal["basic_economy", "economy", "business"]
NOW = "2024-05-15T15:00:00"
"""The time at which everything happens; it stands in the policy."""
_BAG, _INSURANCE = 50, 30
_NEW_IDS = ("HATHAT", "HATHAU", "HATHAV")
_CERTIFICATES = (3221322, 3221323, 3221324)
_CITIES = {
    "ATL": "Atlanta", "BOS": "Boston", "CLT": "Charlotte", "DEN": "Denver", "DFW": "Dallas", "DTW": "Detroit",
    "EWR": "Newark", "IAH": "Houston", "JFK": "New York", "LAS": "Las Vegas", "LAX": "Los Angeles", "LGA": "New York",
    "MCO": "Orlando", "MIA": "Miami", "MSP": "Minneapolis", "ORD": "Chicago", "PHL": "Philadelphia", "PHX": "Phoenix",
    "SEA": "Seattle", "SFO": "San Francisco",
}  # fmt: skip


class Flown(TypedDict):
    """A flight on a day, such as HAT001 on 2024-05-01."""

    flight_number: str
    date: str


class Passenger(TypedDict):
    """A passenger; ``dob`` is their day of birth, such as 1990-01-01."""

    first_name: str
    last_name: str
    dob: str


class Payment(TypedDict):
    """What is paid by one payment method of the user."""

    payment_id: str
    amount: float


class Airline:
    """Tools over the tables ``users``, ``reservations`` and ``flights``."""

    ENDS = "transfer_to_human_agents"

    def __init__(self, records: Records) -> None:
        self._records = records

    def calculate(self, expression: str) -> str:
        """Compute a sum of money.

        Args:
            expression: numbers with + - * / and parentheses, such as 120 * 2 - 35
        """
        return total(expression)

    def get_user_details(self, user_id: str) -> Row:
        """Show a user: name, membership, payment methods, and the ids of their reservations."""
        return self._records.get("users", user_id)

    def get_reservation_details(self, reservation_id: str) -> Row:
        """Show a reservation: flights, passengers, cabin, bags, insurance and payments."""
        return self._records.get("reservations", reservation_id)

    def list_all_airports(self) -> Mapping[str, str]:
        """List the codes of all airports with their cities."""
        flights = [flight for _, flight in self._records.all("flights")]
        codes = sorted({flight[end] for flight in flights for end in ("origin", "destination")})
        return {code: _CITIES.get(code, code) for code in codes}

    def _leaving(self, origin: str, date: str) -> Iterator[dict[str, Any]]:
        """Yield the flights from an airport that can be booked on a day, with seats and prices of that day."""
        for _, flight in self._records.all("flights"):
            day = flight["dates"].get(date, {})
            if flight["origin"] == origin and day.get("status") == "available":
                yield {**{key: value for key, value in flight.items() if key != "dates"}, **day}

    def search_direct_flight(self, origin: str, destination: str, date: str) -> list[Row]:
        """Find flights without a stop that can be booked on a day.

        Args:
            origin: code of the airport, such as JFK
            destination: code of the airport
            date: such as 2024-05-01
        """
        return [flight for flight in self._leaving(origin, date) if flight["destination"] == destination]

    def search_onestop_flight(self, origin: str, destination: str, date: str) -> list[list[Row]]:
        """Find pairs of flights with one stop between them that can be booked; the first leaves on the day.

        Args:
            origin: code of the airport, such as JFK
            destination: code of the airport
            date: such as 2024-05-01
        """
        pairs: list[list[Row]] = []
        for first in self._leaving(origin, date):
            arrives = first["scheduled_arrival_time_est"]
            later = "+1" in arrives
            day = (Date.fromisoformat(date) + timedelta(days=later)).isoformat()
            for second in self._leaving(first["destination"], day):
                leaves = second["scheduled_departure_time_est"]
                if second["destination"] == destination and arrives[:8] <= leaves[:8]:
                    pairs.append([{**first, "date": date}, {**second, "date": day}])
        return pairs

    def think(self, thought: str) -> str:
        """Note a thought; nothing is looked up or changed."""
        return ""

    def transfer_to_human_agents(self, summary: str) -> str:
        """Hand the user over to a human, when the policy has no way to help. This ends the conversation."""
        return HANDED_OVER

    def _seats(self, flown: Flown, cabin: str, passengers: int) -> dict[str, Any]:
        """Return a flight as reservations hold it; refuses one that cannot be booked."""
        flight = self._records.get("flights", flown["flight_number"])
        day = flight["dates"].get(flown["date"], {})
        if day.get("status") != "available":
            raise ValueError(f"flight {flown['flight_number']} cannot be booked on {flown['date']}")
        if day["available_seats"][cabin] < passengers:
            raise ValueError(f"flight {flown['flight_number']} has too few seats in {cabin} on {flown['date']}")
        ends = {"origin": flight["origin"], "destination": flight["destination"]}
        return {**flown, "price": day["prices"][cabin], **ends}

    @writes
    def book_reservation(
        self, user_id: str, origin: str, destination: str, flight_type: Literal["one_way", "round_trip"], cabin: Cabin,
        flights: list[Flown], passengers: list[Passenger], payment_methods: list[Payment], total_baggages: int,
        nonfree_baggages: int, insurance: Literal["yes", "no"],
    ) -> Row:  # fmt: skip
        """Book flights, after the user has confirmed.

        Args:
            user_id: who books
            origin: code of the airport
            destination: code of the airport
            flight_type: one way, or there and back
            cabin: the same on all flights
            flights: every flight in its order
            passengers: everyone who flies
            payment_methods: what is paid by which method; together exactly the price
            total_baggages: all checked bags
            nonfree_baggages: those that are paid for
            insurance: whether insurance is bought
        """
        user = self._records.get("users", user_id)
        booked = [self._seats(flown, cabin, len(passengers)) for flown in flights]
        price = sum(flight["price"] for flight in booked) * len(passengers)
        price += (_INSURANCE * len(passengers) if insurance == "yes" else 0) + _BAG * nonfree_baggages
        for payment in payment_methods:
            balance(method_of(user, payment["payment_id"]), payment["amount"])
        paid = sum(payment["amount"] for payment in payment_methods)
        if paid != price:
            raise ValueError(f"the payments come to {paid}, the price is {price}")
        id = next(id for id in _NEW_IDS if not self._records.has("reservations", id))
        account = self._records.edit("users", user_id)
        for payment in payment_methods:
            if account["payment_methods"][payment["payment_id"]]["source"] == "certificate":
                del account["payment_methods"][payment["payment_id"]]  # what is left of it is lost
            else:
                pay(account, payment["payment_id"], payment["amount"])
        account["reservations"].append(id)
        reservation = {
            "reservation_id": id, "user_id": user_id, "origin": origin, "destination": destination,
            "flight_type": flight_type, "cabin": cabin, "flights": booked, "passengers": copy.deepcopy(passengers),
            "payment_history": copy.deepcopy(payment_methods), "created_at": NOW, "total_baggages": total_baggages,
            "nonfree_baggages": nonfree_baggages, "insurance": insurance,
        }  # fmt: skip
        self._records.add("reservations", id, reservation)
        return reservation

    @writes
    def cancel_reservation(self, reservation_id: str) -> Row:
        """Cancel a whole reservation and pay it back, after the user has confirmed."""
        reservation = self._records.edit("reservations", reservation_id)
        history = reservation["payment_history"]
        history.extend([{"payment_id": paid["payment_id"], "amount": -paid["amount"]} for paid in history])
        reservation["status"] = "cancelled"
        return reservation

    @writes
    def send_certificate(self, user_id: str, amount: float) -> str:
        """Give a user a travel certificate of so many dollars."""
        user = self._records.edit("users", user_id)
        numbers = (f"certificate_{number}" for number in _CERTIFICATES)
        id = next(id for id in numbers if id not in user["payment_methods"])
        user["payment_methods"][id] = {"source": "certificate", "amount": amount, "id": id}
        return f"certificate {id} of {amount:g} dollars was added to user {user_id}"

    def _charge(self, reservation: Row, payment_id: str, amount: float) -> None:
        """Take a difference from a gift card or a credit card of the user who booked, and note it."""
        method = method_of(self._records.get("users", reservation["user_id"]), payment_id)
        if method["source"] == "certificate":
            raise ValueError("a certificate cannot pay for changes of a reservation")
        balance(method, amount)
        if amount:
            pay(self._records.edit("users", reservation["user_id"]), payment_id, amount)
            history = self._records.edit("reservations", reservation["reservation_id"])["payment_history"]
            history.append({"payment_id": payment_id, "amount": amount})

    @writes
    def update_reservation_baggages(
        self, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
    ) -> Row:
        """Set the bags of a reservation, after the user has confirmed.

        Args:
            reservation_id: such as ZFA04Y
            total_baggages: all checked bags from now on
            nonfree_baggages: those that are paid for
            payment_id: pays for the added ones
        """
        reservation = self._records.get("reservations", reservation_id)
        self._charge(reservation, payment_id, _BAG * max(0, nonfree_baggages - reservation["nonfree_baggages"]))
        changed = self._records.edit("reservations", reservation_id)
        changed.update(total_baggages=total_baggages, nonfree_baggages=nonfree_baggages)
        return changed

    @writes
    def update_reservation_flights(
        self, reservation_id: str, cabin: Cabin, flights: list[Flown], payment_id: str
    ) -> Row:
        """Change flights or cabin of a reservation, after the user has confirmed.

        Args:
            reservation_id: such as ZFA04Y
            cabin: the same on all flights
            flights: all flights of the reservation from now on, those that stay included
            payment_id: pays or receives the difference
        """
        reservation = self._records.get("reservations", reservation_id)
        passengers = len(reservation["passengers"])
        kept = {(flight["flight_number"], flight["date"]): flight for flight in reservation["flights"]}
        booked = []
        for flown in flights:
            old = kept.get((flown["flight_number"], flown["date"]))
            same = old is not None and cabin == reservation["cabin"]
            booked.append(dict(old) if same and old is not None else self._seats(flown, cabin, passengers))
        difference = _price(booked) - _price(reservation["flights"])
        self._charge(reservation, payment_id, difference * passengers)
        changed = self._records.edit("reservations", reservation_id)
        changed.update(flights=booked, cabin=cabin)
        return changed

    @writes
    def update_reservation_passengers(self, reservation_id: str, passengers: list[Passenger]) -> Row:
        """Change who flies, but not how many, after the user has confirmed."""
        reservation = self._records.get("reservations", reservation_id)
        if len(passengers) != len(reservation["passengers"]):
            raise ValueError(f"the reservation is for {len(reservation['passengers'])} passengers")
        changed = self._records.edit("reservations", reservation_id)
        changed["passengers"] = copy.deepcopy(passengers)
        return changed


def _price(flights: Sequence[Row]) -> float:
    return float(sum(flight["price"] for flight in flights))
