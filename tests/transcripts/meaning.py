"""What an IMAP response means, without what RFC 9051 leaves to the server: order, quoting, wording, numbers.

``meaning`` writes a response in one canonical way, so that two servers' answers can be compared:

- text for humans is dropped, and so are untagged OKs without a response code; CAPABILITY and ALERT
  may stand in any response and are no code here;
- the order of flags, rights, LIST attributes, FETCH, STATUS and ESEARCH items is alphabetical;
- strings are written alike whether they came as atom, quoted string or literal;
- UIDVALIDITY, mod-sequences and object identifiers become ``#``: each server gives its own.

Pure.
"""

from __future__ import annotations

import re

Tree = str | list["Tree"]

_STATUS = re.compile(r"(\S+) (OK|NO|BAD|PREAUTH|BYE)(?: \[(.*?)\](?: |\Z)|\b)", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|~?\{(\d+)\}\r\n|([()])|((?:[^\s()"\[]|\[[^\]]*\]?)+)| +')
_ATOM = re.compile(r'[^\x00-\x20\x7f-\xff(){%*"\\]+\Z')
_NUMBERED = re.compile(r"\* (\d+) (EXISTS|RECENT|EXPUNGE|FETCH|UIDFETCH)\b(.*)\Z", re.DOTALL)
_MODSEQ = re.compile(r"\b((?:HIGHEST)?MODSEQ) (\(?)(\d+)")
_OWN = re.compile(r"\b(UIDVALIDITY|APPENDUID|COPYUID) (\d+)")
_OWN_ID = re.compile(r"\b(MAILBOXID|EMAILID|THREADID) \(([^)]*)\)")
_UNORDERED = {"FLAGS", "PERMANENTFLAGS"}
_ONLY_THERE = {"CAPABILITY", "ID", "BADCHARSET"}
_INTERESTING = {"\\MARKED", "\\UNMARKED"}
"""LIST attributes that say nothing but what the server believes to be interesting."""
_ANYWHERE = {"CAPABILITY", "ALERT"}
"""Response codes that a server may add to any OK or NO."""


class _Reader:
    """Turns a response into a tree. ``<...>`` holes of transcripts are atoms."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def items(self) -> list[Tree]:
        """Everything up to the closing parenthesis or the end."""
        stack: list[list[Tree]] = [[]]
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                stack[-1].append(self._text[self._at :])
                break
            self._at = found.end()
            quoted, size, bracket, atom = found.groups()
            if bracket == "(":
                stack.append([])
            elif bracket == ")" and len(stack) > 1:
                inner = stack.pop()
                stack[-1].append(inner)
            elif quoted is not None:
                stack[-1].append(_string(re.sub(r"\\(.)", r"\1", quoted)))
            elif size is not None:
                stack[-1].append(_string(self._text[self._at : self._at + int(size)]))
                self._at += int(size)
            elif atom is not None:
                stack[-1].append(atom)
        while len(stack) > 1:
            inner = stack.pop()
            stack[-1].append(inner)
        return stack[0]


def tree(text: str) -> list[Tree]:
    """The atoms, strings and lists that ``text`` holds; strings are written alike however they were sent."""
    return _Reader(text).items()


def _string(text: str) -> str:
    """A string as it is written whatever it was sent as."""
    if _ATOM.match(text) and text.upper() != "NIL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _written(one: Tree) -> str:
    if isinstance(one, str):
        return one
    return "(" + " ".join(map(_written, one)) + ")"


def _sorted_list(found: Tree) -> Tree:
    """In alphabetical order; what may stand behind any of them stands behind the last."""
    if not isinstance(found, list):
        return found
    names = [_written(one) for one in found]
    in_order = sorted((name.removesuffix("<*>") for name in names), key=str.casefold)
    if any(name.endswith("<*>") for name in names) and in_order:
        in_order[-1] += "<*>"
    return list(in_order)


def _pairs(items: list[Tree]) -> list[str]:
    """Name and value after each other, in alphabetical order of names; a last name may lack its value."""
    found = []
    for at in range(0, len(items), 2):
        name = _written(items[at]).upper()
        value = items[at + 1] if at + 1 < len(items) else ""
        if name in _UNORDERED:
            value = _sorted_list(value)
        found.append(f"{name} {_written(value)}".rstrip())
    return sorted(found)


def _own_numbers(text: str) -> str:
    text = _MODSEQ.sub(r"\1 \2#", text)
    return _OWN_ID.sub(r"\1 (#)", _OWN.sub(r"\1 #", text))


def _code(text: str) -> str:
    name, _, rest = text.partition(" ")
    name = name.upper()
    if name in _ONLY_THERE:
        return name
    if name in _UNORDERED:
        (flags,) = tree(rest) or [[]]
        return f"{name} {_written(_sorted_list(flags))}"
    return _own_numbers(f"{name} {rest}".rstrip())


def _data(text: str) -> str:
    """An untagged response that is no status response."""
    items = tree(text[2:])
    name, rest = _written(items[0]).upper() if items else "", items[1:]
    if name in _ONLY_THERE:
        return f"* {name}"
    if name in {"LIST", "LSUB"} and rest:
        shown = [one for one in rest[0] if str(one).upper() not in _INTERESTING]
        rest = [_sorted_list(shown), *rest[1:]]
    elif name == "STATUS" and len(rest) == 2 and isinstance(rest[1], list):
        return f"* STATUS {_written(rest[0])} (" + " ".join(_pairs(rest[1])) + ")"
    elif name == "ESEARCH":
        head = [one for one in rest[:2] if isinstance(one, list) or one == "UID"]
        return f"* ESEARCH {' '.join(map(_written, head))} {' '.join(_pairs(rest[len(head) :]))}".rstrip()
    elif name in {"ENABLED", "FLAGS"}:
        rest = [_sorted_list(one) for one in rest] if name == "FLAGS" else list(_sorted_list(rest))
    elif name == "METADATA" and len(rest) == 2 and isinstance(rest[1], list):
        return f"* METADATA {_written(rest[0])} (" + " ".join(_pairs(rest[1])) + ")"
    elif name in {"MYRIGHTS", "ACL"}:
        # The mailbox, and in ACL identifiers and rights in turn.
        at = slice(1, None) if name == "MYRIGHTS" else slice(2, None, 2)
        rest[at] = ["".join(sorted(_written(rights))) for rights in rest[at]]
    return f"* {name} {' '.join(map(_written, rest))}".rstrip()


def meaning(response: str) -> str | None:
    """The canonical form of one whole response (with its literals, without the last CRLF).

    Returns:
        None for an untagged response that means nothing to a client.
    """
    if response.startswith("+"):
        return "+"
    status = _STATUS.match(response)
    if status is not None:
        label, condition, code = status.groups()
        if code is not None and code.partition(" ")[0].upper() in _ANYWHERE:
            code = None
        if code is None:
            return None if label == "*" and condition.upper() == "OK" else f"{label} {condition.upper()}"
        return f"{label} {condition.upper()} [{_code(code)}]"
    numbered = _NUMBERED.match(response)
    if numbered is not None:
        number, name, rest = numbered.groups()
        if "FETCH" not in name:
            return f"* {number} {name}"
        items = tree(rest)
        inner = items[0] if items and isinstance(items[0], list) else []
        return _own_numbers(f"* {number} {name} (" + " ".join(_pairs(inner)) + ")")
    return _own_numbers(_data(response)) if response.startswith("* ") else response


def mod_sequences(response: str) -> list[int]:
    """The mod-sequences that a response tells, in order."""
    return [int(number) for _, _, number in _MODSEQ.findall(response)]


def together(lines: list[str]) -> list[str]:
    """EXPUNGE responses as the set they remove: first to last or last to first comes to the same."""
    removed: list[int] = []
    others = []
    for line in lines:
        found = _NUMBERED.match(line)
        if found is None or found[2] != "EXPUNGE":
            others.append(line)
            continue
        number = int(found[1])
        for earlier in sorted(removed):
            number += earlier <= number
        removed.append(number)
    if removed:
        others.append("* EXPUNGE of " + " ".join(map(str, sorted(removed))))
    return others
