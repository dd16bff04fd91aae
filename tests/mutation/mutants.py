"""Small changes to a module's source, one at a time, each of them a mistake somebody might make.

A comparison turned, a guard or a call for its effect (fsync, unlink, wipe, close) left out, a lock not
taken, an attribute not set, a number off by one, a result dropped. Left alone is what no test of behaviour
can see: annotations, decorators, docstrings, assertions, log lines and what is written for people to read.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_UNSEEN = {"log", "logging", "print"}
"""Calls of these, and of their methods, are for people to read."""
_UNTESTED = {"__repr__", "__str__"}

Node = ast.AST
Change = Callable[[Node], Node | list[ast.stmt] | None]
"""What stands in the place of a node; None when it is not for this change."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. ``function`` and ``change`` say which, wherever the lines have moved to."""

    module: str
    function: str
    change: str
    nth: int
    """Which of several equal changes of the function this is, from 0."""
    lines: tuple[int, int]
    """The statement it is in, first and last line."""
    place: int
    """Which node of the tree, in the order of ``ast.walk``."""
    kind: str

    @property
    def name(self) -> str:
        """How the list of survivors calls it."""
        which = f" #{self.nth + 1}" if self.nth else ""
        return f"{self.function}: {self.change}{which}"


def _compare(node: Node) -> Node | None:
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return None
    turned = _TURNED[type(node.ops[0])]()
    return ast.Compare(node.left, [turned], node.comparators)


def _junction(node: Node) -> Node | None:
    if not isinstance(node, ast.BoolOp):
        return None
    return ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _negation(node: Node) -> Node | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    return None


def _sum(node: Node) -> Node | None:
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add | ast.Sub):
        return None
    return ast.BinOp(node.left, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.right)


def _number(node: Node) -> Node | None:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return ast.Constant(node.value + 1)
    return None


def _truth(node: Node) -> Node | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return ast.Constant(not node.value)
    return None


def _guard(node: Node) -> Node | None:
    if isinstance(node, ast.If) and not node.orelse:
        return ast.If(ast.Constant(False), node.body, [])
    return None


def _effect(node: Node) -> Node | None:
    if not isinstance(node, ast.Expr):
        return None
    call = node.value.value if isinstance(node.value, ast.Await) else node.value
    if not isinstance(call, ast.Call) or _is_unseen(call.func):
        return None
    return ast.Pass()


def _is_unseen(function: ast.expr) -> bool:
    first = function.value if isinstance(function, ast.Attribute) else function
    return isinstance(first, ast.Name) and first.id in _UNSEEN


def _setting(node: Node) -> Node | None:
    if isinstance(node, ast.Assign | ast.AugAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Attribute):
            return ast.Pass()
    return None


def _lock(node: Node) -> list[ast.stmt] | None:
    if isinstance(node, ast.With) and all(item.optional_vars is None for item in node.items):
        return node.body
    return None


def _result(node: Node) -> Node | None:
    if isinstance(node, ast.Return) and node.value is not None:
        if isinstance(node.value, ast.Constant) and node.value.value in (None, True, False):
            return None
        return ast.Return(ast.Constant(None))
    return None


CHANGES: dict[str, Change] = {
    "comparison": _compare,
    "junction": _junction,
    "negation": _negation,
    "sum": _sum,
    "number": _number,
    "truth": _truth,
    "guard": _guard,
    "effect": _effect,
    "setting": _setting,
    "lock": _lock,
    "result": _result,
}


def mutants(module: str, source: str) -> list[Mutant]:
    """All changes of a module, in the order of its lines."""
    tree = ast.parse(source)
    places = {id(node): place for place, node in enumerate(ast.walk(tree))}
    found: list[Mutant] = []
    seen: dict[tuple[str, str], int] = {}
    for function, statement, node in _candidates(tree):
        for kind, change in CHANGES.items():
            changed = change(node)
            if changed is None or (kind == "setting" and function.endswith("__init__")):
                continue
            words = _words(node, changed, kind)
            nth = seen[function, words] = seen.get((function, words), -1) + 1
            lines = (statement.lineno, _last_line(statement))
            found.append(Mutant(module, function, words, nth, lines, places[id(node)], kind))
    return sorted(found, key=lambda one: (one.lines, one.place))


def mutated(source: str, mutant: Mutant) -> ast.Module:
    """The module with the change made."""
    tree = ast.parse(source)
    target = next(node for place, node in enumerate(ast.walk(tree)) if place == mutant.place)

    class Put(ast.NodeTransformer):
        def visit(self, node: Node) -> Node | list[ast.stmt]:
            if node is not target:
                return self.generic_visit(node)
            changed = CHANGES[mutant.kind](copy.deepcopy(node))
            assert changed is not None
            if isinstance(changed, list):
                return changed
            return ast.copy_location(changed, node)

    done = ast.fix_missing_locations(Put().visit(tree))
    assert isinstance(done, ast.Module)
    return done


def _last_line(statement: ast.stmt) -> int:
    """The last line of a simple statement, or of the head of a compound one."""
    body = getattr(statement, "body", None)
    return max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno or statement.lineno


def _words(node: Node, changed: Node | list[ast.stmt], kind: str) -> str:
    """The change in a line, without what is left as it is."""
    match kind:
        case "guard":
            assert isinstance(node, ast.If)
            return f"no `if {ast.unparse(node.test)}`"
        case "lock":
            assert isinstance(node, ast.With)
            return f"no `with {', '.join(ast.unparse(item) for item in node.items)}`"
        case "effect" | "setting":
            return f"no `{ast.unparse(node)}`"
        case "result":
            return f"None for `{ast.unparse(node)}`"
        case _:
            assert isinstance(changed, ast.AST)
            return f"`{ast.unparse(node)}` as `{ast.unparse(ast.fix_missing_locations(changed))}`"


def _candidates(tree: ast.Module) -> Iterator[tuple[str, ast.stmt, Node]]:
    """Everything in functions that may be changed: the function's name, the statement, the node."""
    waiting: list[tuple[str, Node]] = [("", tree)]
    while waiting:
        scope, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if child.name not in _UNTESTED:
                    waiting.append((f"{scope}.{child.name}".lstrip("."), child))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if isinstance(child, ast.stmt) and child in node.body:
                    yield from _inside(scope, child)
            elif isinstance(child, ast.If | ast.Try | ast.With):
                waiting.append((scope, child))


def _inside(function: str, statement: ast.stmt) -> Iterator[tuple[str, ast.stmt, Node]]:
    """A statement, what is in it, and the statements below it."""
    if isinstance(statement, ast.Assert | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        if not isinstance(statement, ast.Assert):
            yield from (found for one in statement.body for found in _inside(function, one))
        return
    said = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(said, ast.Call) and _is_unseen(said.func):
        return
    yield function, statement, statement
    annotation = getattr(statement, "annotation", None)
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield from _inside(function, child)
        elif isinstance(child, ast.excepthandler | ast.match_case):
            yield from (found for one in child.body for found in _inside(function, one))
        elif child is not annotation:
            yield from ((function, statement, node) for node in _expressions(child))


def _expressions(node: Node) -> Iterator[Node]:
    """An expression and those in it; texts put together for people are left alone."""
    if isinstance(node, ast.JoinedStr):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _expressions(child)
