"""A maker and a critic that are scripts, so that the tutorial runs without a model.

Both are functions ``(ask, sample) -> text``, as ``--maker script:players:maker`` wants them. The maker's first function
for prices is wrong: it calculates with floats, for which the 1.605 euros of a nail are a
little less, and round down. It mends that when it is told.
"""

from ferrule.core.flows import Ask
from ferrule.core.records import plain_text

GROSS_FIRST = '''
def gross_price(net: str, percent: int) -> str:
    """Return a price with tax, two digits behind the point, halves rounded up.

    Args:
        net: the price before tax, such as 20.00
        percent: the tax in percent
    """
    return f"{float(net) * (1 + percent / 100):.2f}"
'''
GROSS = '''
from decimal import ROUND_HALF_UP, Decimal


def gross_price(net: str, percent: int) -> str:
    """Return a price with tax, two digits behind the point, halves rounded up.

    Args:
        net: the price before tax, such as 20.00
        percent: the tax in percent
    """
    full = Decimal(net) * (100 + percent) / 100
    return str(full.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP))
'''
GROSS_TESTS = """
assert gross_price("1.00", 20) == "1.20"
assert gross_price("3.50", 7) == "3.75"
assert gross_price("199.00", 0) == "199.00"
assert gross_price("0.00", 19) == "0.00"
"""
SLOT = '''
def free_slot(busy: list[list[int]], first: int = 8, last: int = 18) -> int:
    """Return the first full hour at which nobody is busy; -1 where there is none.

    Args:
        busy: hours from and to, of anybody
        first: the hour at which the day begins
        last: the hour at which it ends
    """
    for hour in range(first, last):
        if not any(start <= hour < end for start, end in busy):
            return hour
    return -1
'''
SLOT_TESTS = """
assert free_slot([[9, 12], [8, 9]]) == 12
assert free_slot([[8, 9], [10, 18]]) == 9
assert free_slot([[8, 17], [17, 18]]) == -1
assert free_slot([]) == 8
assert free_slot([], 10, 12) == 10
assert free_slot([[0, 30]], 10, 12) == -1
"""


def maker(ask: Ask, sample: int) -> str:
    """Write the function, then its tests; a function that is wrong is written again."""
    first, last = plain_text(ask.messages[0]), plain_text(ask.messages[-1])
    prices = "tax" in first
    if last.startswith("Here are further questions"):
        code = GROSS_TESTS if prices else SLOT_TESTS
    elif last.startswith("This is wrong"):
        code = GROSS if prices else SLOT
    else:
        code = GROSS_FIRST if prices else SLOT
    return f"```python\n{code.strip()}\n```"


def critic(ask: Ask, sample: int) -> str:
    """Agree to functions that say what each of their parameters is."""
    return "AGREE" if "Args:" in plain_text(ask.messages[-1]) else "REJECT: the parameters are not described"
