"""The desk of the shop of tau-bench: what an agent may look up, change, cancel, return and exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ferrule.worlds.suites.records import Records, writes
from ferrule.worlds.suites.tau_desk import HANDED_OVER, balance, method_of, pay, total

__all__ = ["Retail"]

Row = Mapping[str, Any]


class Retail:
    """Tools over the tables ``users``, ``orders`` and ``products``."""

    ENDS = "transfer_to_human_agents"

    def __init__(self, records: Records) -> None:
        self._records = records

    def calculate(self, expression: str) -> str:
        """Compute a sum of money.

        Args:
            expression: numbers with + - * / and parentheses, such as 12.5 * 2 - 3
        """
        return total(expression)

    def find_user_id_by_email(self, email: str) -> str:
        """Find the id of a user by their e-mail address."""
        return self._found(lambda user: user["email"].lower() == email.lower())

    def find_user_id_by_name_zip(self, first_name: str, last_name: str, zip: str) -> str:
        """Find the id of a user by name and zip code, where the e-mail address is not known."""
        name = (first_name.lower(), last_name.lower())
        return self._found(
            lambda user: tuple(part.lower() for part in user["name"].values()) == name and user["address"]["zip"] == zip
        )

    def _found(self, fits: Any) -> str:
        for id, user in self._records.all("users"):
            if fits(user):
                return id
        raise LookupError("user not found")

    def get_user_details(self, user_id: str) -> Row:
        """Show a user: name, address, payment methods, and the ids of their orders."""
        return self._records.get("users", user_id)

    def get_order_details(self, order_id: str) -> Row:
        """Show an order: items, status, address and payments.

        Args:
            order_id: with the sign # before it, such as #W0000000
        """
        return self._records.get("orders", order_id)

    def get_product_details(self, product_id: str) -> Row:
        """Show a product and the items that it comes in, with options, prices, and whether they are available.

        Args:
            product_id: of the product, not of one of its items
        """
        return self._records.get("products", product_id)

    def list_all_product_types(self) -> Mapping[str, str]:
        """List the names of all products with their ids."""
        return dict(sorted((product["name"], id) for id, product in self._records.all("products")))

    def think(self, thought: str) -> str:
        """Note a thought; nothing is looked up or changed."""
        return ""

    def transfer_to_human_agents(self, summary: str) -> str:
        """Hand the user over to a human, when the policy has no way to help. This ends the conversation."""
        return HANDED_OVER

    def _order(self, order_id: str, status: str) -> Row:
        order = self._records.get("orders", order_id)
        if order["status"] != status:
            raise ValueError(f"order {order_id} is {order['status']}, not {status}")
        return order

    def _payer(self, order: Row, payment_method_id: str) -> Row:
        return method_of(self._records.get("users", order["user_id"]), payment_method_id)

    @writes
    def cancel_pending_order(self, order_id: str, reason: Literal["no longer needed", "ordered by mistake"]) -> Row:
        """Cancel a pending order and pay it back, after the user has confirmed order and reason."""
        self._order(order_id, "pending")
        order = self._records.edit("orders", order_id)
        user = self._records.edit("users", order["user_id"])
        back = []
        for payment in order["payment_history"]:
            id, amount = payment["payment_method_id"], payment["amount"]
            back.append({"transaction_type": "refund", "amount": amount, "payment_method_id": id})
            pay(user, id, -amount)
        order.update(status="cancelled", cancel_reason=reason)
        order["payment_history"].extend(back)
        return order

    def _swap(
        self, order: Row, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
    ) -> tuple[list[tuple[Row, Row]], float]:
        """Return each item of an order with the one that takes its place, and what is to be paid for it.

        Refuses what cannot be had, and a payment method that cannot pay the difference.
        """
        _held(order, item_ids)
        if len(item_ids) != len(new_item_ids):
            raise ValueError(f"{len(item_ids)} items cannot be exchanged for {len(new_item_ids)}")
        pairs = []
        for old, new in zip(item_ids, new_item_ids, strict=True):
            item = next(item for item in order["items"] if item["item_id"] == old)
            variant = self._records.get("products", item["product_id"])["variants"].get(new)
            if variant is None or not variant["available"]:
                raise ValueError(f"item {new} is no available item of the product {item['name']}")
            pairs.append((item, variant))
        difference = round(sum(new["price"] - old["price"] for old, new in pairs), 2)
        balance(self._payer(order, payment_method_id), difference)
        return pairs, difference

    @writes
    def exchange_delivered_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Row:
        """Ask for the exchange of items of a delivered order, once per order, after the user has confirmed.

        Args:
            order_id: with the sign # before it
            item_ids: items to give back
            new_item_ids: items of the same products to get for them, in the same order
            payment_method_id: pays or receives the difference of the prices
        """
        order = self._order(order_id, "delivered")
        _, difference = self._swap(order, item_ids, new_item_ids, payment_method_id)
        order = self._records.edit("orders", order_id)
        order.update(
            status="exchange requested", exchange_items=sorted(item_ids), exchange_new_items=sorted(new_item_ids),
            exchange_payment_method_id=payment_method_id, exchange_price_difference=difference,
        )  # fmt: skip
        return order

    @writes
    def modify_pending_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Row:
        """Change items of a pending order to others of the same products, once per order, after the user has confirmed.

        Args:
            order_id: with the sign # before it
            item_ids: items to change
            new_item_ids: items of the same products to have in their place, in the same order
            payment_method_id: pays or receives the difference of the prices
        """
        order = self._order(order_id, "pending")
        pairs, difference = self._swap(order, item_ids, new_item_ids, payment_method_id)
        order = self._records.edit("orders", order_id)
        kind = "payment" if difference > 0 else "refund"
        order["payment_history"].append(
            {"transaction_type": kind, "amount": abs(difference), "payment_method_id": payment_method_id}
        )
        pay(self._records.edit("users", order["user_id"]), payment_method_id, difference)
        for (_, new), old in zip(pairs, item_ids, strict=True):
            item = next(item for item in order["items"] if item["item_id"] == old)
            item.update(item_id=new["item_id"], price=new["price"], options=dict(new["options"]))
        order["status"] = "pending (item modified)"
        return order

    @writes
    def modify_pending_order_payment(self, order_id: str, payment_method_id: str) -> Row:
        """Pay a pending order by another payment method of the user, after they have confirmed."""
        order = self._order(order_id, "pending")
        method = self._payer(order, payment_method_id)
        history = order["payment_history"]
        if len(history) != 1 or history[0]["transaction_type"] != "payment":
            raise ValueError(f"order {order_id} was not paid by one payment alone")
        old, amount = history[0]["payment_method_id"], history[0]["amount"]
        if old == payment_method_id:
            raise ValueError(f"order {order_id} is paid by {old} as it is")
        balance(method, amount)
        order = self._records.edit("orders", order_id)
        user = self._records.edit("users", order["user_id"])
        order["payment_history"] += [
            {"transaction_type": "payment", "amount": amount, "payment_method_id": payment_method_id},
            {"transaction_type": "refund", "amount": amount, "payment_method_id": old},
        ]
        pay(user, payment_method_id, amount)
        pay(user, old, -amount)
        return order

    @writes
    def modify_pending_order_address(
        self, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
    ) -> Row:
        """Change where a pending order is sent, after the user has confirmed."""
        self._order(order_id, "pending")
        order = self._records.edit("orders", order_id)
        order["address"] = _address(address1, address2, city, state, country, zip)
        return order

    @writes
    def modify_user_address(
        self, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
    ) -> Row:
        """Change the address of a user, after they have confirmed."""
        user = self._records.edit("users", user_id)
        user["address"] = _address(address1, address2, city, state, country, zip)
        return user

    @writes
    def return_delivered_order_items(self, order_id: str, item_ids: list[str], payment_method_id: str) -> Row:
        """Ask for the return of items of a delivered order, once per order, after the user has confirmed.

        Args:
            order_id: with the sign # before it
            item_ids: items to give back
            payment_method_id: receives the money: the one that paid, or a gift card of the user
        """
        order = self._order(order_id, "delivered")
        method = self._payer(order, payment_method_id)
        if method["source"] != "gift_card" and payment_method_id != order["payment_history"][0]["payment_method_id"]:
            raise ValueError("money goes back to the payment method that paid, or to a gift card")
        _held(order, item_ids)
        order = self._records.edit("orders", order_id)
        order.update(
            status="return requested", return_items=sorted(item_ids), return_payment_method_id=payment_method_id
        )
        return order


def _held(order: Row, item_ids: Sequence[str]) -> None:
    """Refuse items that an order does not hold, or not as often."""
    lacking = Counter(item_ids) - Counter(item["item_id"] for item in order["items"])
    if lacking:
        raise LookupError(f"the order does not hold {', '.join(lacking)}")


def _address(address1: str, address2: str, city: str, state: str, country: str, zip: str) -> dict[str, str]:
    return {
        "address1": address1, "address2": address2, "city": city, "state": state, "country": country, "zip": zip
    }  # fmt: skip
