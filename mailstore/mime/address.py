"""Address lists (RFC 5322 sections 3.4 and 4.4) in the four fields of IMAP's envelope.

Encoded words stay encoded, 8-bit bytes are kept, broken input gives what can be made of it. The
time is linear: every byte is looked at by one quick pattern and, if that fails, by one token.
"""

import re
from dataclasses import dataclass

from mailstore.mime.content import unquote
from mailstore.mime.headers import unfold
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """One entry of an address list (RFC 3501 section 7.4.2), NIL being None.

    ``host`` None marks a group: with its name in ``mailbox`` the start, with None there the end.
    A mailbox without a domain has an empty ``host``.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


GROUP_END = Address(None, None, None, None)

# What nearly all entries look like: a name, then addr-spec in angle brackets; or only addr-spec.
_WORD = rb'[^\s"(),:;<>@\[\]\\]+'
# The plain name takes in the blanks around it: a pattern that could share them out would be quadratic.
_NAMED = re.compile(
    rb'(?:[ \t]*"([^"\\]*)"[ \t]*|([^"(),:;<>@\[\]\\]*))<(' + _WORD + rb")@(" + _WORD + rb")>[ \t]*(?:,|\Z)"
)
_BARE = re.compile(rb"[ \t]*(" + _WORD + rb")@(" + _WORD + rb")[ \t]*(?:,|\Z)")
# Possessive: a quoted string ends in one way only, and each way back would be remembered, 128 bytes a pair.
_TOKEN = re.compile(
    rb'(?P<space>\s+)|(?P<word>[^\s"(),:;<>@\[\]]+)|"(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*+)"?'
    rb"|(?P<literal>\[[^\]<>,;]*\]?)|(?P<special>.)",
    re.S,
)
_PAREN = re.compile(rb"[()\\]")
_SPACED_DOT = re.compile(rb" ?\. ?")


def _comment_end(value: bytes, position: int) -> int:
    """The index after the comment whose opening parenthesis is before ``position``."""
    depth = 1
    while mark := _PAREN.search(value, position):
        position = mark.end()
        if mark[0] == b"\\":
            position += 1
        elif mark[0] == b"(":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return position
    return len(value)


def _squeezed(pieces: list[bytes]) -> bytes:
    return b"".join(pieces).strip()


def _dotted(pieces: list[bytes]) -> bytes:
    text = _squeezed(pieces)
    return _SPACED_DOT.sub(b".", text) if b" " in text and b"." in text else text


class _Parser:
    """Reads one address list; holds the entry that is being put together."""

    def __init__(self, value: bytes, limits: MimeLimits) -> None:
        self.value = value
        self.most = limits.max_addresses
        self.found: list[Address] = []
        self.in_group = False
        self._reset()

    def _reset(self) -> None:
        self.pieces: list[bytes] = []
        self.first: bytes | None = None
        """The first piece in angle brackets that is no blank; searched for, it would be quadratic."""
        self.at: int | None = None
        self.phrase: bytes | None = None
        self.angle: tuple[bytes | None, bytes, bytes] | None = None
        self.in_angle = False
        self.comment: bytes | None = None

    def parse(self) -> tuple[Address, ...]:
        value, position, end = self.value, 0, len(self.value)
        fresh = True
        while position < end and len(self.found) < self.most:
            if fresh:
                quick = self._quick(position)
                if quick > position:
                    position = quick
                    continue
            token = _TOKEN.match(value, position)
            if token is None:
                break
            position = token.end()
            if token.lastgroup != "special":
                self._add(token)
                fresh = False
            elif token[0] == b"(":
                stop = _comment_end(value, position)
                if not self.in_angle:
                    # Behind an address it is its name, by an old habit; within one it is a remark.
                    self.comment = value[position : stop - 1 if stop < end or value.endswith(b")") else stop]
                position = stop
                fresh = False
            else:
                fresh = self._special(token[0])
        self._flush()
        self._end_group()
        return tuple(self.found[: self.most])

    def _quick(self, position: int) -> int:
        match = _NAMED.match(self.value, position)
        if match:
            quoted, plain, mailbox, host = match.groups()
            name = (plain.strip() or None) if quoted is None else quoted
            self.found.append(Address(name, None, mailbox, host))
            return match.end()
        match = _BARE.match(self.value, position)
        if match:
            self.found.append(Address(None, None, match[1], match[2]))
            return match.end()
        return position

    def _add(self, token: re.Match[bytes]) -> None:
        match token.lastgroup:
            case "space":
                self.pieces.append(b" ")
            case "quoted":
                self._append(unquote(token["quoted"]))
            case _:
                self._append(token[0])

    def _append(self, piece: bytes) -> None:
        if self.in_angle and self.first is None:
            self.first = piece
        self.pieces.append(piece)

    def _special(self, sign: bytes) -> bool:
        """Act on a special character; returns whether an entry ends here."""
        if self.in_angle:
            return self._special_in_angle(sign)
        match sign:
            case b"<":
                if self.angle is not None:
                    pieces = self.pieces
                    self._flush()
                    self.pieces = pieces
                self.phrase = _squeezed(self.pieces) or None
                self.pieces, self.first, self.at, self.in_angle = [], None, None, True
                return False
            case b",":
                self._flush()
                return True
            case b":" if not self.in_group and self.at is None and self.angle is None:
                name = _squeezed(self.pieces)
                self._reset()
                self.found.append(Address(None, None, name, None))
                self.in_group = True
                return True
            case b";":
                self._flush()
                self._end_group()
                return True
            case b"@":
                self.at = len(self.pieces)
        self.pieces.append(sign)
        return False

    def _special_in_angle(self, sign: bytes) -> bool:
        match sign:
            case b">":
                self._close_angle()
                return False
            case b"," | b";" if not self._has_route():
                # The closing bracket is missing.
                self._close_angle()
                return self._special(sign)
            case b"@":
                self.at = len(self.pieces)
        self._append(sign)
        return False

    def _has_route(self) -> bool:
        # obs-route begins with "@" and is the one place where a comma stands inside brackets.
        return self.first == b"@"

    def _close_angle(self) -> None:
        route: bytes | None = None
        pieces, at = self.pieces, self.at
        if b":" in pieces and self._has_route():
            colon = pieces.index(b":")
            route, pieces = _squeezed(pieces[:colon]), pieces[colon + 1 :]
            at = at - colon - 1 if at is not None and at > colon else None
        mailbox, host = self._split(pieces, at)
        self.angle = (route, mailbox, host)
        self.pieces, self.first, self.at, self.in_angle = [], None, None, False

    @staticmethod
    def _split(pieces: list[bytes], at: int | None) -> tuple[bytes, bytes]:
        if at is None:
            return _squeezed(pieces), b""
        host = _dotted(pieces[at + 1 :])
        return _dotted(pieces[:at]), host.split(b" ", 1)[0]

    def _flush(self) -> None:
        """Add the entry read so far, if there is one, and begin the next."""
        if self.in_angle:
            self._close_angle()
        if self.angle is not None:
            route, mailbox, host = self.angle
            name = self.phrase if self.phrase is not None else self.comment
            self.found.append(Address(name, route, mailbox, host))
        elif _squeezed(self.pieces):
            mailbox, host = self._split(self.pieces, self.at)
            name = self.comment
            if self.at is None and b" " in mailbox:
                # Several words and no address: this is somebody's name.
                name, mailbox = mailbox, b""
            self.found.append(Address(name, None, mailbox, host))
        self._reset()

    def _end_group(self) -> None:
        if self.in_group:
            self.in_group = False
            self.found.append(GROUP_END)


def addresses(value: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> tuple[Address, ...]:
    """The entries of the address list ``value`` (a field's value, folded or not), never raising.

    At most ``max_addresses`` entries, group markers included.
    """
    if b"\n" in value or b"\r" in value:
        value = unfold(value)
    return _Parser(value, limits).parse()
