"""Why Dovecot's ENVELOPE and BODYSTRUCTURE are not ours: the causes that DIFFERENCES.md explains. Pure.

A cause is as narrow as its explanation: what none of them covers is a difference nobody has looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mailstore.mime import DEFAULT_LIMITS
from tests.transcripts.meaning import Tree
from tests.transcripts.structures import Unlike

_PLACEHOLDERS = {"MISSING_MAILBOX", "MISSING_DOMAIN", "SYNTAX_ERROR"}
_EMPTY = '""'
_NOBODY: Tree = ["NIL", "NIL", _EMPTY, _EMPTY]
_SINGLE = {"date", "subject", "in-reply-to", "message-id"}
_ADDRESSES = {"from", "sender", "reply-to", "to", "cc", "bcc"}
_RUN = re.compile(r"[ \t]+")
_BARE_LF = re.compile(rb"(?<!\r)\n")


def _pairs(tree: Tree) -> list[tuple[Tree, Tree]]:
    return list(zip(tree[::2], tree[1::2], strict=True)) if isinstance(tree, list) else []


def _without_placeholders(tree: Tree) -> Tree:
    if isinstance(tree, str):
        return _EMPTY if tree in _PLACEHOLDERS else tree
    return [_without_placeholders(one) for one in tree]


def _text(tree: Tree) -> str:
    return tree if isinstance(tree, str) else " ".join(map(_text, tree))


def _default_charset(message: bytes, one: Unlike) -> bool:
    return one.what == "params" and _pairs(one.theirs) == [*_pairs(one.ours), ("charset", "us-ascii")]


def _placeholder(message: bytes, one: Unlike) -> bool:
    return one.what in _ADDRESSES and _without_placeholders(one.theirs) == one.ours


def _unterminated(message: bytes, one: Unlike) -> bool:
    if one.what in _ADDRESSES:
        theirs = _without_placeholders(one.theirs)
        return theirs == [_NOBODY] and "unterminated" in _text(one.ours)
    return one.what in ("params", "disposition") and re.search(rb'="[^"]*\r\n\r\n', message) is not None


def _empty_entry(message: bytes, one: Unlike) -> bool:
    if one.what not in _ADDRESSES or not isinstance(one.theirs, list):
        return False
    return [entry for entry in one.theirs if _without_placeholders(entry) != _NOBODY] == one.ours


def _white_space(message: bytes, one: Unlike) -> bool:
    ours, theirs = (_RUN.sub(" ", _text(tree)).replace('" ', '"') for tree in (one.ours, one.theirs))
    return one.what in _SINGLE | _ADDRESSES and ours == theirs


def _repeated(message: bytes, one: Unlike) -> bool:
    found = re.findall(rb"^" + one.what.encode() + rb": *([^\r\n]*)", message, re.MULTILINE | re.IGNORECASE)
    return one.what in _SINGLE and [one.ours, one.theirs] == [value.decode("latin-1") for value in found]


def _comment(message: bytes, one: Unlike) -> bool:
    def bare(tree: Tree) -> Tree:
        return [entry[1:] for entry in tree] if isinstance(tree, list) else tree

    return one.what in _ADDRESSES and b": (x)(x)(x)" in message and bare(one.ours) == bare(one.theirs)


def _no_type(message: bytes, one: Unlike) -> bool:
    return one.what == "type" and one.ours == ["text", "plain"] and one.theirs[1] == _EMPTY


def _no_boundary(message: bytes, one: Unlike) -> bool:
    return (
        one.what == "parts"
        and one.ours[:2] == ["text", "plain"]
        and re.search(rb'multipart/mixed(?:; boundary=(?:" ")?)?\r\n\r\n', message) is not None
    )


def _depth(message: bytes, one: Unlike) -> bool:
    nested = message.count(b"message/rfc822") + message.count(b"multipart/mixed")
    opaque = one.ours[:2] == ["application", "octet-stream"]
    return one.what in ("type", "parts") and opaque and nested >= DEFAULT_LIMITS.max_depth


def _order(message: bytes, one: Unlike) -> bool:
    def pairs(tree: Tree) -> list[str]:
        return sorted(map(_text, (list(pair) for pair in _pairs(tree[1]))))

    return one.what == "disposition" and pairs(one.ours) == pairs(one.theirs) != []


def _many_parameters(message: bytes, one: Unlike) -> bool:
    shorter, longer = sorted((_text(one.ours), _text(one.theirs)), key=len)
    many = message.count(b"; ") > DEFAULT_LIMITS.max_parameters
    return one.what == "disposition" and many and longer.startswith(shorter)


def _broken_parameters(message: bytes, one: Unlike) -> bool:
    broken = rb"text/plain;;;; charset|filename=a b c\.txt|filename\*00="
    return one.what in ("params", "disposition") and re.search(broken, message) is not None


def _line_ends(message: bytes, one: Unlike) -> bool:
    return one.what in ("size", "lines") and bool(_BARE_LF.search(message) or b"\r\r\n" in message)


def _binary(message: bytes, one: Unlike) -> bool:
    return one.what in ("encoding", "size") and b"Content-Transfer-Encoding: binary\r\n\r\n" in message


def _nul(message: bytes, one: Unlike) -> bool:
    return one.what in _SINGLE | _ADDRESSES and b"\0" in message.partition(b"\r\n\r\n")[0]


CAUSES: dict[str, Callable[[bytes, Unlike], bool]] = {
    "default charset": _default_charset,
    "placeholders": _placeholder,
    "unterminated quoted string": _unterminated,
    "empty entries": _empty_entry,
    "white space": _white_space,
    "repeated field": _repeated,
    "comments": _comment,
    "unreadable type": _no_type,
    "no boundary": _no_boundary,
    "depth": _depth,
    "parameter order": _order,
    "many parameters": _many_parameters,
    "broken parameters": _broken_parameters,
    "line ends": _line_ends,
    "binary content": _binary,
    "NUL in a header": _nul,
}


def cause(message: bytes, one: Unlike) -> str | None:
    """The first cause that covers the difference; None when none does."""
    return next((name for name, covers in CAUSES.items() if covers(message, one)), None)
