"""A strict reader of BODYSTRUCTURE, BODY and ENVELOPE answers (RFC 3501 section 9).

It accepts what the grammar allows and nothing else; ``GrammarError`` names the rule, not the bytes.
"""

import re

_QUOTED = re.compile(rb'"((?:[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n")
_NUMBER = re.compile(rb"0|[1-9][0-9]*")


class GrammarError(AssertionError):
    """The answer breaks the named rule."""


class Reader:
    """Reads one answer from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def done(self) -> None:
        """The answer must end here."""
        if self.at != len(self.data):
            raise GrammarError("trailing bytes")

    def sees(self, token: bytes) -> bool:
        """Whether ``token`` comes next."""
        return self.data.startswith(token, self.at)

    def take(self, token: bytes, rule: str) -> None:
        """``token`` must come next."""
        if not self.sees(token):
            raise GrammarError(rule)
        self.at += len(token)

    def number(self) -> int:
        """number."""
        found = _NUMBER.match(self.data, self.at)
        if not found:
            raise GrammarError("number")
        self.at = found.end()
        return int(found[0])

    def string(self) -> bytes:
        """string: quoted, or a literal of exactly its length and without NUL."""
        if found := _QUOTED.match(self.data, self.at):
            self.at = found.end()
            return re.sub(rb"\\(.)", rb"\1", found[1])
        found = _LITERAL.match(self.data, self.at)
        if not found:
            raise GrammarError("string")
        self.at = found.end() + int(found[1])
        value = self.data[found.end() : self.at]
        if len(value) != int(found[1]) or b"\0" in value:
            raise GrammarError("literal")
        return value

    def nstring(self) -> bytes | None:
        """nstring."""
        if self.sees(b"NIL"):
            self.at += 3
            return None
        return self.string()

    def params(self) -> None:
        """body-fld-param: NIL or pairs of strings."""
        if self.sees(b"NIL"):
            self.at += 3
            return
        self.take(b"(", "body-fld-param")
        while True:
            self.string()
            self.take(b" ", "body-fld-param")
            self.string()
            if self.sees(b")"):
                break
            self.take(b" ", "body-fld-param")
        self.take(b")", "body-fld-param")

    def common_extension(self) -> None:
        """body-fld-dsp, body-fld-lang and body-fld-loc, each after a space."""
        self.take(b" ", "body-fld-dsp")
        if self.sees(b"NIL"):
            self.at += 3
        else:
            self.take(b"(", "body-fld-dsp")
            self.string()
            self.take(b" ", "body-fld-dsp")
            self.params()
            self.take(b")", "body-fld-dsp")
        self.take(b" ", "body-fld-lang")
        if self.sees(b"("):
            self.at += 1
            self.string()
            while self.sees(b" "):
                self.at += 1
                self.string()
            self.take(b")", "body-fld-lang")
        else:
            self.nstring()
        self.take(b" ", "body-fld-loc")
        self.nstring()

    def body(self, *, extended: bool) -> None:
        """body: body-type-1part or body-type-mpart."""
        self.take(b"(", "body")
        if self.sees(b"("):
            while self.sees(b"("):
                self.body(extended=extended)
            self.take(b" ", "media-subtype")
            self.string()
            if extended:
                self.take(b" ", "body-ext-mpart")
                self.params()
                self.common_extension()
        else:
            self._one_part(extended)
        self.take(b")", "body")

    def _one_part(self, extended: bool) -> None:
        media = self.string().lower()
        self.take(b" ", "media-subtype")
        subtype = self.string().lower()
        self.take(b" ", "body-fld-param")
        self.params()
        for rule in ("body-fld-id", "body-fld-desc"):
            self.take(b" ", rule)
            self.nstring()
        self.take(b" ", "body-fld-enc")
        self.string()
        self.take(b" ", "body-fld-octets")
        self.number()
        if (media, subtype) in ((b"message", b"rfc822"), (b"message", b"global")):
            self.take(b" ", "envelope")
            self.envelope()
            self.take(b" ", "body")
            self.body(extended=extended)
            media = b"text"
        if media == b"text":
            self.take(b" ", "body-fld-lines")
            self.number()
        if extended:
            self.take(b" ", "body-fld-md5")
            self.nstring()
            self.common_extension()

    def envelope(self) -> list[object]:
        """envelope; returns its ten values, address lists as lists of four-tuples or None."""
        self.take(b"(", "envelope")
        values: list[object] = []
        for index in range(10):
            if index:
                self.take(b" ", "envelope")
            values.append(self._address_list() if 2 <= index <= 7 else self.nstring())
        self.take(b")", "envelope")
        return values

    def _address_list(self) -> list[tuple[bytes | None, ...]] | None:
        if self.sees(b"NIL"):
            self.at += 3
            return None
        self.take(b"(", "env-from")
        found = []
        while self.sees(b"("):
            self.at += 1
            four = []
            for index in range(4):
                if index:
                    self.take(b" ", "address")
                four.append(self.nstring())
            self.take(b")", "address")
            found.append(tuple(four))
        self.take(b")", "env-from")
        if not found:
            raise GrammarError("1*address")
        return found


def check_body(answer: bytes, *, extended: bool) -> None:
    """Raises GrammarError unless ``answer`` is a body."""
    reader = Reader(answer)
    reader.body(extended=extended)
    reader.done()


def check_envelope(answer: bytes) -> list[object]:
    """The values of an envelope; raises GrammarError unless ``answer`` is one."""
    reader = Reader(answer)
    values = reader.envelope()
    reader.done()
    return values
