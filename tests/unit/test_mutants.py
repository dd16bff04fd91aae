"""The changes that mutation runs make: each is there, is one change only, and nothing else is touched."""

from __future__ import annotations

import ast

import pytest

from tests.mutation.mutants import CHANGES, mutants, mutated

SOURCE = '''
"""A module."""

LIMIT = 3


class Thing:
    def __init__(self) -> None:
        self.open = True

    def __repr__(self) -> str:
        return f"Thing({1 + 1})"

    def act(self, size: int = 7) -> int:
        """Act."""
        assert size > 0
        log.error("size %d", size + 1)
        if size < LIMIT and not self.open:
            raise ValueError(f"{size + 1}")
        with self.lock:
            os.fsync(size)
        with open("x") as file:
            self.open = False
        return size - 1
'''
EXPECTED = {
    "comparison": ["`size < LIMIT` as `size <= LIMIT`"],
    "junction": ["`size < LIMIT and (not self.open)` as `size < LIMIT or not self.open`"],
    "negation": ["`not self.open` as `self.open`"],
    "sum": ["`size - 1` as `size + 1`"],
    "number": ["`1` as `2`"],
    "truth": ["`False` as `True`"],
    "guard": ["no `if size < LIMIT and (not self.open)`"],
    "effect": ["no `os.fsync(size)`"],
    "setting": ["no `self.open = False`"],
    "lock": ["no `with self.lock`"],
    "result": ["None for `return size - 1`"],
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_kind_of_change_is_found_where_it_should(kind: str) -> None:
    """And nowhere else: not in annotations, log lines, assertions, docstrings and texts."""
    found = [one for one in mutants("thing.py", SOURCE) if one.kind == kind]
    in_act = [one.change for one in found if one.function == "Thing.act"]
    assert in_act == EXPECTED[kind]
    in_init = {"truth": ["`True` as `False`"]}
    assert [one.change for one in found if one.function != "Thing.act"] == in_init.get(kind, [])


def test_a_mutant_is_the_module_with_one_change() -> None:
    """The rest is as it was, line numbers included; names stay when lines are added above."""
    before = ast.unparse(ast.parse(SOURCE)).splitlines()
    for one in mutants("thing.py", SOURCE):
        tree = mutated(SOURCE, one)
        compile(tree, "thing.py", "exec")
        after = ast.unparse(tree).splitlines()
        assert after != before
        assert len(set(after) - set(before)) <= 2, one.name
    moved = mutants("thing.py", "\n\n" + SOURCE)
    assert [one.name for one in moved] == [one.name for one in mutants("thing.py", SOURCE)]


def test_equal_changes_of_one_function_are_told_apart() -> None:
    """By their order."""
    found = mutants("thing.py", "def f(a):\n    g(a)\n    g(a)\n")
    assert [one.name for one in found] == ["f: no `g(a)`", "f: no `g(a)` #2"]
