"""Lines of JSON that carry a directory from one kind to the other."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from directory_worlds import ANN, JOE, record

from mailstore.directory import Contents, DomainLimits, Doors, Node, lines_of, read_lines
from mailstore.errors import ExportInvalid
from mailstore.model import Pop3Settings

NO_LIMITS = DomainLimits()
CONTENTS = Contents.of(
    "example.org",
    {"example.org": NO_LIMITS, "bücher.example": DomainLimits(7)},
    [replace(record(), pop3=Pop3Settings("Archive", True, False, 9)), record(ANN, "änne@bücher.example", 5)],
    [("info@example.org", JOE)],
)
LINES = list(lines_of(CONTENTS))


def test_what_is_written_is_read():
    """Every field; in one order, whatever the order of what it is made of."""
    assert read_lines(LINES) == CONTENTS
    assert [json.loads(line).popitem()[0] for line in LINES[1:]] == [
        "quota_bytes", "quota_bytes", "account", "account", "account_id"
    ]  # fmt: skip
    empty = Contents.of(None, {}, [], [])
    assert read_lines(lines_of(empty)) == empty
    other = Contents.of(
        CONTENTS.default_domain, dict(CONTENTS.domains), CONTENTS.accounts[::-1], CONTENTS.aliases
    )
    assert other == CONTENTS


@pytest.mark.parametrize("kept", range(len(LINES)))
def test_a_file_that_was_cut_short_is_refused(kept):
    """At any line."""
    with pytest.raises(ExportInvalid):
        read_lines(LINES[:kept])
    with pytest.raises(ExportInvalid):
        read_lines([*LINES[:kept], LINES[kept][:20]])


def changed(line, old, new):
    """The lines with something else in one of them."""
    assert old in LINES[line]
    return [*LINES[:line], LINES[line].replace(old, new), *LINES[line + 1 :]]


ODD = {
    "another kind": changed(0, "sealbox directory", "other"),
    "a newer version": changed(0, '"version":1', '"version":5'),
    "a default that is no domain": changed(0, "example.org", "example.net"),
    "a domain that is none": changed(1, "bücher.example", "b cher"),
    "a domain in another spelling": changed(2, "example.org", "EXAMPLE.org"),
    "an account of no domain": changed(3, "joe@example.org", "joe@example.net"),
    "an id that leads out of the root": changed(3, JOE, "../../etc"),
    "one id twice": changed(3, JOE, ANN),
    "one address twice": changed(5, "info@example.org", "joe@example.org"),
    "nobody's alias": changed(5, JOE, "c" * 32),
    "a number that is none": changed(3, '"created":5', '"created":"soon"'),
    "a key that is none": changed(3, '"public_key":"', '"public_key":"!'),
    "a list": [*LINES, "[]\n"],
    "nothing": [],
    "no JSON": [*LINES, "{\n"],
    "one line more": [*LINES, LINES[1].replace("bücher", "other")],
    "depth": ["[" * 100_000],
}


def test_nodes_are_exported_where_there_are_any():
    """Earlier programs read an export without them as before, and refuse one that says more."""
    assert json.loads(LINES[0])["version"] == 1
    contents = Contents.of(
        None,
        {"example.org": NO_LIMITS},
        [replace(record(), node="a", node_generation=3)],
        [],
        [Node("b", "192.0.2.2:24"), Node("a", "192.0.2.1:24")],
    )
    lines = list(lines_of(contents))
    assert json.loads(lines[0])["version"] == 2
    assert read_lines(lines) == contents
    for old, new in (('"node":"a","address"', '"node":"c","address"'), ('generation":3', 'generation":-3')):
        with pytest.raises(ExportInvalid):
            read_lines([line.replace(old, new) for line in lines])
    with pytest.raises(ExportInvalid):
        read_lines([line for line in lines if "192.0.2.2" not in line])


def test_doors_are_exported_where_there_are_any():
    """As above, by a version of their own."""
    nodes = [Node("a", "192.0.2.1:24", Doors("192.0.2.1:1143")), Node("b", "192.0.2.2:24")]
    contents = Contents.of(None, {}, [], [], nodes)
    lines = list(lines_of(contents))
    assert json.loads(lines[0])["version"] == 3
    assert json.loads(lines[1]) == {"node": "a", "address": "192.0.2.1:24", "imap": "192.0.2.1:1143"}
    assert json.loads(lines[2]) == {"node": "b", "address": "192.0.2.2:24"}
    assert read_lines(lines) == contents
    for odd in ('"nowhere"', "5", "null", "[]"):
        with pytest.raises(ExportInvalid):
            read_lines([line.replace('"192.0.2.1:1143"', odd) for line in lines])


def test_numbers_of_accounts_and_aliases_are_exported_where_they_are_limited():
    """Earlier programs refuse what they would lose."""
    limits = {
        "a.example": DomainLimits(7, aliases=0),
        "b.example": DomainLimits(accounts=3),
        "c.example": NO_LIMITS,
    }
    contents = Contents.of(None, limits, [], [])
    lines = list(lines_of(contents))
    assert json.loads(lines[0])["version"] == 4
    assert lines[3] == '{"domain":"c.example","quota_bytes":null}\n'
    assert read_lines(lines) == contents
    for old, new in (('"accounts":3}', '"accounts":-3}'), ('"aliases":0', '"aliases":"few"')):
        with pytest.raises(ExportInvalid):
            read_lines([line.replace(old, new) for line in lines])


@pytest.mark.parametrize("lines", ODD.values(), ids=ODD)
def test_nothing_is_believed_of_a_file(lines):
    """A mistake of a hand that has edited it is found before anything is changed."""
    with pytest.raises(ExportInvalid):
        read_lines(lines)


def test_what_is_said_of_a_bad_file_shows_no_address():
    """It names the line."""
    with pytest.raises(ExportInvalid, match="line 4") as caught:
        read_lines(ODD["an account of no domain"])
    assert "joe" not in str(caught.value)
