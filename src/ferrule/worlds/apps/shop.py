"""The app ``shop``: products, a cart, orders, wishes and reviews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ferrule.worlds.apps.calling import paged, writes
from ferrule.worlds.apps.store import Id, Page, Row, Store, Text

__all__ = ["Shop"]

Order = Literal["name", "price", "rating"]


@dataclass(frozen=True)
class Shop:
    """A shop with whole prices in dollars; orders are paid with a card of the app payments."""

    store: Store

    def categories(self) -> Row:
        """List the categories with the number of their products."""
        return paged(
            self.store.rows("SELECT category, count(*) AS products FROM products GROUP BY category ORDER BY category"),
            1,
        )

    def search(self, query: Text = "", category: Text | None = None, sort: Order = "name", page: Page = 1) -> Row:
        """Find products by a part of the name; prices go upwards, ratings downwards.

        Args:
            query: text to look for; empty finds all
            category: only in this category
            sort: what they are ordered by
            page: number of the page
        """
        order = {"name": "name", "price": "price, name", "rating": "rating DESC, name"}[sort]
        products = self.store.rows(
            "SELECT * FROM products WHERE instr(lower(name), lower(?)) AND (? IS NULL OR category = ?) "
            f"ORDER BY {order}, id",
            query.strip(),
            category,
            category,
        )
        return paged(products, page)

    def product(self, product_id: Id) -> Row:
        """Show one product with its reviews.

        Args:
            product_id: id of the product
        """
        row = self.store.one("products", product_id)
        return {**row, "reviews": self.store.rows("SELECT stars, text FROM reviews WHERE product_id = ?", product_id)}

    def _inside(self) -> list[Row]:
        return self.store.rows(
            "SELECT product_id, name, quantity, price FROM cart JOIN products ON products.id = product_id "
            "ORDER BY cart.id"
        )

    def cart(self) -> Row:
        """Show what is in the cart, and its total."""
        inside = self._inside()
        return {"items": inside, "total": sum(item["price"] * item["quantity"] for item in inside)}

    @writes
    def cart_add(self, product_id: Id, quantity: Annotated[int, Field(ge=1, le=99)] = 1) -> str:
        """Put a product into the cart; what is there already is added up.

        Args:
            product_id: id of the product
            quantity: how many
        """
        product = self.store.one("products", product_id)
        there = self.store.rows("SELECT id, quantity FROM cart WHERE product_id = ?", product_id)
        wanted = quantity + sum(row["quantity"] for row in there)
        if wanted > product["stock"]:
            raise ValueError(f"only {product['stock']} of {product['name']!r} are in stock")
        if there:
            self.store.update("cart", there[0]["id"], quantity=wanted)
        else:
            self.store.insert("cart", product_id=product_id, quantity=quantity)
        return f"{wanted} in the cart"

    @writes
    def cart_remove(self, product_id: Id) -> str:
        """Take a product out of the cart.

        Args:
            product_id: id of the product
        """
        if not self.store.delete("cart", product_id=product_id):
            raise LookupError(f"product {product_id} is not in the cart")
        return "removed"

    @writes
    def checkout(self, card_id: Id) -> Row:
        """Order everything in the cart and pay with a card; the cart is empty afterwards.

        Args:
            card_id: id of the card that pays
        """
        card, inside = self.store.one("cards", card_id), self._inside()
        if not inside:
            raise ValueError("the cart is empty")
        total = sum(item["price"] * item["quantity"] for item in inside)
        order = self.store.insert("orders", day=self.store.today, total=total, status="ordered", card_id=card_id)
        for item in inside:
            left = self.store.one("products", item["product_id"])["stock"] - item["quantity"]
            if left < 0:
                raise ValueError(f"{item['name']!r} is out of stock")
            self.store.update("products", item["product_id"], stock=left)
            bought = {key: item[key] for key in ("product_id", "quantity", "price")}
            self.store.insert("bought", order_id=order, **bought)
            self.store.delete("cart", product_id=item["product_id"])
        self.store.update("cards", card_id, spent=card["spent"] + total)
        return {"order_id": order, "total": total}

    def orders(self, page: Page = 1) -> Row:
        """List the orders, the newest first.

        Args:
            page: number of the page
        """
        return paged(self.store.rows("SELECT * FROM orders ORDER BY day DESC, id DESC"), page)

    def order(self, order_id: Id) -> Row:
        """Show one order with its products.

        Args:
            order_id: id of the order
        """
        row = self.store.one("orders", order_id)
        items = self.store.rows(
            "SELECT product_id, name, quantity, bought.price FROM bought JOIN products ON products.id = product_id "
            "WHERE order_id = ? ORDER BY bought.id",
            order_id,
        )
        return {**row, "items": items}

    @writes
    def cancel(self, order_id: Id) -> str:
        """Cancel an order that was not delivered yet; the card gets the money back.

        Args:
            order_id: id of the order
        """
        order = self.store.one("orders", order_id)
        if order["status"] != "ordered":
            raise ValueError(f"order {order_id} is {order['status']}, so it cannot be cancelled")
        card = self.store.one("cards", order["card_id"])
        self.store.update("orders", order_id, status="cancelled")
        self.store.update("cards", card["id"], spent=card["spent"] - order["total"])
        for item in self.store.rows("SELECT product_id, quantity FROM bought WHERE order_id = ?", order_id):
            stock = self.store.one("products", item["product_id"])["stock"]
            self.store.update("products", item["product_id"], stock=stock + item["quantity"])
        return "cancelled"

    def wishes(self, page: Page = 1) -> Row:
        """List the products of the wish list.

        Args:
            page: number of the page
        """
        query = "SELECT products.* FROM wishes JOIN products ON products.id = product_id ORDER BY wishes.id"
        return paged(self.store.rows(query), page)

    @writes
    def wish(self, product_id: Id) -> str:
        """Put a product on the wish list.

        Args:
            product_id: id of the product
        """
        self.store.one("products", product_id)
        if self.store.rows("SELECT id FROM wishes WHERE product_id = ?", product_id):
            raise ValueError(f"product {product_id} is on the wish list already")
        self.store.insert("wishes", product_id=product_id)
        return "wished"

    @writes
    def unwish(self, product_id: Id) -> str:
        """Take a product off the wish list.

        Args:
            product_id: id of the product
        """
        if not self.store.delete("wishes", product_id=product_id):
            raise LookupError(f"product {product_id} is not on the wish list")
        return "removed"

    @writes
    def review(self, product_id: Id, stars: Annotated[int, Field(ge=1, le=5)], text: Text = "") -> str:
        """Review a product.

        Args:
            product_id: id of the product
            stars: 1 to 5
            text: what you think of it
        """
        self.store.one("products", product_id)
        self.store.insert("reviews", product_id=product_id, stars=stars, text=text.strip())
        return "reviewed"
