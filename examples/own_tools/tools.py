"""Tools of a small shop. Any typed function with a docstring becomes a tool."""

from ferrule.tools.tool import tool

PRICES = {
    "book": 12,
    "lamp": 35,
    "phone": 240,
    "boat": 900,
    "plant": 8,
    "song": 1,
    "chair": 48,
    "clock": 27,
    "kite": 19,
}
STOCK = {
    "book": 140,
    "lamp": 22,
    "phone": 15,
    "boat": 2,
    "plant": 64,
    "song": 999,
    "chair": 31,
    "clock": 58,
    "kite": 76,
}


@tool
def price(product: str) -> int:
    """price of a product"""
    return PRICES[product]


@tool
def stock(product: str) -> int:
    """stock of a product"""
    return STOCK[product]
