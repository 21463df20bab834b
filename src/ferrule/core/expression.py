"""A bounded evaluator of small expressions in Python's syntax: the grammar is data, and evaluation always ends.

An expression is read as a syntax tree and never run as code. A ``Grammar`` lists the parts that may stand in it and
what its operators and functions mean; a ``Budget`` bounds the length of the text, the nodes evaluated, the size of
every value, and the work of all operations together. An operation that could make something huge is refused before it
starts.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest

__all__ = [
    "Budget",
    "Evaluation",
    "Form",
    "Grammar",
    "NotAllowed",
    "check",
    "evaluate",
    "parse",
    "read",
    "rounded",
    "total",
]

_REMARKED = re.compile(r"\\|[\d.][A-Za-z]")  # what Python may comment on, on stderr
_STRUCTURE = (ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.keyword, ast.comprehension)


@dataclass(frozen=True)
class Budget:
    """Bounds of one expression and its evaluation.

    ``characters`` of its text, ``steps`` (nodes evaluated), ``size`` of one value (characters and items at all depths,
    on top of what the names hold), ``bits`` of an integer, ``work`` (characters and items that all operations read and
    write together).
    """

    characters: int = 100_000
    steps: int = 100_000
    size: int = 100_000
    bits: int = 20_000
    work: int = 5_000_000


Form: TypeAlias = "Callable[[Evaluation, Any, Mapping[str, Any]], Any]"
"""What a kind of node means in one grammar: ``(evaluation, node, names) -> value``."""


@dataclass(frozen=True)
class Grammar:
    """What may stand in expressions of one kind.

    ``kind`` names them in messages and ``allowed`` says what may stand in them. ``nodes`` are the node types beside
    operators, calls and attributes; ``operators`` maps types of operators to their functions, ``functions`` and
    ``methods`` (of text) are what may be called, ``constants`` the types of literals, ``names`` the known names (None:
    any). ``forms`` give node types a special meaning.
    """

    kind: str
    allowed: str
    nodes: tuple[type[ast.AST], ...] = ()
    operators: Mapping[type[ast.AST], Callable[..., Any]] = field(default_factory=dict)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    methods: frozenset[str] = frozenset()
    constants: tuple[type, ...] = (int, float, str, bool, type(None))
    names: tuple[str, ...] | None = ()
    forms: Mapping[type[ast.AST], Form] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)


class NotAllowed(ValueError):
    """An expression holds a part that its grammar does not allow; ``node`` is that part."""

    def __init__(self, text: str, node: ast.AST) -> None:
        super().__init__(text)
        self.node = node


def parse(text: str, grammar: Grammar) -> ast.expr:
    """Read an expression and check every part of it.

    Raises ``ValueError`` for an invalid expression, and ``NotAllowed`` for a part that the grammar does not allow.
    """
    try:
        return check(read(text, grammar), grammar)
    except SyntaxError as error:
        raise ValueError(f"{grammar.kind} {_short(text)} is not a Python expression: {error}") from None
    except NotAllowed as error:
        raise NotAllowed(f"{grammar.kind} {_short(text)} {error}; it may hold {grammar.allowed}", error.node) from None


def read(text: str, grammar: Grammar) -> ast.expr:
    """Return the syntax tree of a text without checking it.

    Raises ``SyntaxError`` for an invalid expression, and ``ValueError`` for one that is too long or too deep.
    """
    most = grammar.budget.characters
    if len(text) > most:
        raise ValueError(f"the expression has {len(text)} characters; the most is {most}")
    try:
        if not _REMARKED.search(text):
            return ast.parse(text.strip(), mode="eval").body
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except (RecursionError, MemoryError):
        raise ValueError("the expression is nested too deeply") from None
    except ValueError as error:  # zero bytes and half surrogates
        raise SyntaxError(str(error)) from None


def check(tree: ast.expr, grammar: Grammar) -> ast.expr:
    """Return ``tree`` when every part of it may stand there; raises ``NotAllowed`` otherwise."""
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        problem = _problem(node, id(node) in calls, bound, grammar)
        if problem:
            raise NotAllowed(problem, calls.get(id(node), node))
    return tree


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _problem(node: ast.AST, called: bool, bound: set[str], grammar: Grammar) -> str:
    """Say what is wrong with one node; empty when it may stand there."""
    kind = type(node)
    if isinstance(node, ast.Name) and called:
        return "" if node.id in grammar.functions else f"calls {node.id!r}, {nearest(node.id, [*grammar.functions])}"
    if isinstance(node, ast.Name) and grammar.names is not None and (grammar.names or ast.Name in grammar.nodes):
        known = (*grammar.names, *bound)
        return "" if node.id in known else f"names {node.id!r}, {nearest(node.id, known)}"
    if isinstance(node, ast.Attribute) and grammar.methods and not (called and node.attr in grammar.methods):
        return f"uses .{node.attr}, {nearest(node.attr, sorted(grammar.methods))}"
    if isinstance(node, ast.Call) and not isinstance(node.func, (ast.Name, ast.Attribute)):
        return "calls something that has no name"
    if isinstance(node, ast.Constant):
        return "" if type(node.value) in grammar.constants else f"holds {node.value!r:.50}"
    if isinstance(node, ast.comprehension) and (node.is_async or not isinstance(node.target, ast.Name)):
        return "has a loop that binds more than one name"
    if isinstance(node, (ast.operator, ast.unaryop, ast.cmpop)) and kind not in grammar.operators:
        return f"uses {kind.__name__}, which is not allowed"
    if isinstance(node, (*_STRUCTURE, *grammar.nodes)) or (isinstance(node, ast.Attribute) and grammar.methods):
        return ""
    if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Compare)) and grammar.operators:
        return ""
    if isinstance(node, ast.Call) and (grammar.functions or grammar.methods):
        return ""
    return f"uses {kind.__name__}, which is not allowed"


def evaluate(expression: ast.expr, grammar: Grammar, names: Mapping[str, Any] | None = None) -> Any:
    """Evaluate a checked expression.

    Raises ``OverflowError`` where the budget ends, and otherwise whatever an operation raises.
    """
    try:
        return Evaluation(grammar, names or {}).value(expression, names or {})
    except RecursionError:
        raise OverflowError(f"the {grammar.kind} is nested too deeply") from None


class Evaluation:
    """One evaluation: what is left of its budget, and what each kind of node means."""

    def __init__(self, grammar: Grammar, names: Mapping[str, Any]) -> None:
        """Start with the whole budget; the size of what the names hold comes on top, counted once it matters."""
        self.grammar, self._names = grammar, names
        self._steps, self._work = grammar.budget.steps, grammar.budget.work
        self._size, self._extended = grammar.budget.size, False

    def _extend(self) -> bool:
        """Add what the names hold to the budget; False when that was done before."""
        if self._extended:
            return False
        given = size_of(list(self._names.values()), 1 << 30)
        self._extended, self._size, self._work = True, self._size + given, self._work + 20 * given
        return True

    def value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        """Evaluate one node."""
        self._steps -= 1
        if self._steps < 0:
            raise OverflowError(f"the {self.grammar.kind} takes too many steps")
        form = self.grammar.forms.get(type(node))
        if form is not None:
            return form(self, node, names)
        match node:
            case ast.Constant(value=value):
                return self._sized(value)
            case ast.Name(id=name):
                return names[name]
            case ast.BoolOp(op=op, values=parts):
                return self._logic(isinstance(op, ast.And), parts, names)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return self.value(body if self.value(test, names) else otherwise, names)
            case ast.UnaryOp(op=unary, operand=operand):
                return self._sized(self.grammar.operators[type(unary)](self.value(operand, names)))
            case ast.BinOp(left=left, op=binary, right=right):
                return self.apply(type(binary), self.value(left, names), self.value(right, names))
            case ast.Compare():
                return self._compare(node, names)
            case ast.Call():
                return self._call(node, names)
            case ast.Subscript(value=base, slice=index):
                return self._sized(self.value(base, names)[self._index(index, names)])
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                return self._sized([self.value(element, names) for element in elements])
            case ast.Set(elts=elements):
                return self._sized({self.value(element, names) for element in elements})
            case ast.GeneratorExp(elt=element, generators=loops) | ast.ListComp(elt=element, generators=loops):
                return self._sized(self._comprehension(element, loops, names))
        raise ValueError(f"{type(node).__name__} is not allowed in a {self.grammar.kind}")

    def apply(self, op: type[ast.AST], left: Any, right: Any) -> Any:
        """Apply a binary operator or a comparison within the budget."""
        if op is ast.Mod and isinstance(left, (str, bytes)):
            raise TypeError("text formatting is not allowed")
        if op in (ast.Mult, ast.Pow):
            self._foresee(op, left, right)
        self._charge(left, right)
        return self._sized(self.grammar.operators[op](left, right))

    def _foresee(self, op: type[ast.AST], left: Any, right: Any) -> None:
        """Refuse a product or power whose size can be told beforehand to be past the budget."""
        for repeated, times in ((left, right), (right, left)):
            if isinstance(repeated, (str, list)) and isinstance(times, int):
                self._allow(partial(_repeated, repeated, max(times, 0)))
        if isinstance(left, int) and isinstance(right, int):
            # A power has at least (bits - 1) * exponent bits, a product at least the sum of both less one.
            bits = (left.bit_length() - 1) * right if op is ast.Pow else left.bit_length() + right.bit_length() - 1
            self._allow_bits(bits)

    def _charge(self, *values: Any) -> None:
        self._spend(sum(size_of(value, self._size) for value in values))

    def _spend(self, work: int) -> None:
        self._work -= work
        if self._work < 0 and not (self._extend() and self._work >= 0):
            raise OverflowError(f"the {self.grammar.kind} takes too much work")

    def _sized(self, value: Any) -> Any:
        """Return a new value if it is not larger than allowed."""
        if isinstance(value, int):
            self._allow_bits(value.bit_length())
        elif not isinstance(value, float):
            self._spend(self._allow(lambda most: size_of(value, most)))
        return value

    def _allow(self, size: Callable[[int], int]) -> int:
        """Return a size if it is within the budget; counting stops once it is past the bound that ``size`` is given."""
        counted = size(self._size)
        if counted > self._size and self._extend():
            counted = size(self._size)
        if counted > self._size:
            raise OverflowError(f"a value of the {self.grammar.kind} is too large")
        return counted

    def _allow_bits(self, bits: int) -> None:
        if bits > self.grammar.budget.bits:
            raise OverflowError(f"a number of the {self.grammar.kind} is too large")

    def _logic(self, is_and: bool, parts: list[ast.expr], names: Mapping[str, Any]) -> Any:
        result: Any = is_and
        for part in parts:
            result = self.value(part, names)
            if bool(result) is not is_and:
                return result
        return result

    def _compare(self, node: ast.Compare, names: Mapping[str, Any]) -> bool:
        left = self.value(node.left, names)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part, names)
            if not self.apply(type(op), left, right):
                return False
            left = right
        return True

    def _index(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*(self.value(part, names) if part is not None else None for part in parts))
        return self.value(node, names)

    def _call(self, node: ast.Call, names: Mapping[str, Any]) -> Any:
        arguments = [self.value(argument, names) for argument in node.args]
        keywords = {word.arg: self.value(word.value, names) for word in node.keywords if word.arg is not None}
        self._charge(*arguments)
        if isinstance(node.func, ast.Name):
            return self._sized(self.grammar.functions[node.func.id](*arguments, **keywords))
        assert isinstance(node.func, ast.Attribute)
        owner, name = self.value(node.func.value, names), node.func.attr
        if not isinstance(owner, str):
            raise TypeError(f".{name} belongs to text")
        longest = max((len(argument) for argument in arguments if isinstance(argument, str)), default=0)
        self._spend(len(owner) * (1 + longest // 1000))  # searching and stripping look at both
        self._charge(owner)
        if name == "replace" and len(arguments) > 1 and all(isinstance(text, str) for text in arguments[:2]):
            old, new = arguments[:2]
            self._allow(lambda _: len(owner) + owner.count(old) * (len(new) - len(old)))
        return self._sized(getattr(owner, name)(*arguments, **keywords))

    def _comprehension(self, element: ast.expr, loops: list[ast.comprehension], names: Mapping[str, Any]) -> list[Any]:
        if not loops:
            return [self.value(element, names)]
        loop, values = loops[0], []
        assert isinstance(loop.target, ast.Name)
        for item in self.value(loop.iter, names):
            inner = {**names, loop.target.id: item}
            if all(self.value(test, inner) for test in loop.ifs):
                values += self._comprehension(element, loops[1:], inner)
        return values


def _repeated(value: Any, times: int, most: int) -> int:
    return 1 + (size_of(value, most) - 1) * times


def size_of(value: Any, most: int) -> int:
    """Count the characters and items of a value at all depths; counting ends once there are more than ``most``."""
    size, waiting = 0, [value]
    while waiting and size <= most:
        part = waiting.pop()
        if isinstance(part, (str, bytes)):
            size += len(part) + 1
        elif isinstance(part, (list, tuple, set, frozenset)):
            size += 1
            waiting.extend(part)
        elif isinstance(part, Mapping):
            size += 1 + len(part)
            waiting.extend(part.values())
        else:
            size += 1
    return size


def total(values: Any) -> int | float:
    """``sum`` of numbers alone: adding up lists copies them again and again."""
    result: int | float = 0
    for value in values:
        if not isinstance(value, (int, float)):
            raise TypeError(f"sum adds numbers, not {type(value).__name__}")
        result += value
    return result


def rounded(number: Any, digits: Any = None) -> Any:
    """``round``; raises ``ValueError`` for a number of digits that would take long to round to."""
    if digits is None:
        return round(number)
    if not isinstance(digits, int) or abs(digits) > 1000:
        raise ValueError("round takes a number of digits between -1000 and 1000")
    return round(number, digits)
