"""The lines of Dovecot's authentication protocol: what is read, and what is answered. Pure.

A line consists of fields with tabs between them; the first says what it is. A field that is not known is
ignored, as the protocol wants it. ``resp=`` takes all the rest of its line, tabs too, so that nothing a
stranger has written can become a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from protocols.sasl import encode_challenge
from protocols.sasl_service import requests as ask
from protocols.sites import read_address

MAJOR_VERSION = 1
MINOR_VERSION = 1

_TAB = b"\t"
_INITIAL = b"\tresp="
_NUMBER = re.compile(rb"\d{1,10}")
_ID_MAX = 2**32 - 1


class Malformed(Exception):
    """The line breaks the rules of the protocol. The text is fixed."""


def parse_line(line: bytes) -> ask.Request:
    """A line without its end. Raises Malformed."""
    if b"\0" in line or b"\r" in line:
        raise Malformed("NUL or CR in a line")
    head, _, initial = line.partition(_INITIAL)
    command, *fields = head.split(_TAB)
    match command, fields:
        case b"VERSION", [major, minor]:
            _number(minor)
            return ask.Version(_number(major))
        case b"CPID", [pid]:
            _number(pid)
            return ask.ClientPid()
        case b"AUTH", [number, mechanism, *parameters]:
            return _auth(_id(number), mechanism, parameters, initial)
        case b"CONT", [number, response]:
            return ask.Continue(_id(number), response)
        case b"CANCEL", [number]:
            return ask.Cancel(_id(number))
    raise Malformed("unknown command, or wrong number of fields")


def _auth(number: int, mechanism: bytes, parameters: list[bytes], initial: bytes) -> ask.Auth:
    known = dict(one.partition(b"=")[::2] for one in parameters)
    if len(known) != len(parameters):
        raise Malformed("a parameter is there twice")
    remote, local = read_address(known.get(b"rip", b"")), read_address(known.get(b"lip", b""))
    return ask.Auth(
        number,
        mechanism.upper(),
        known.get(b"service", b"").lower(),
        remote,
        # As Dovecot has it: between two programs of one machine nobody can listen in.
        b"secured" in known or (remote != "" and remote == local),
        _initial(initial),
    )


def _initial(response: bytes) -> bytes | None:
    # "=" is an empty response (RFC 4954 section 4); nothing at all is none, as Exim writes it.
    return b"" if response == b"=" else response or None


def _id(text: bytes) -> int:
    number = _number(text)
    if number > _ID_MAX:
        raise Malformed("an id has 32 bits")
    return number


def _number(text: bytes) -> int:
    if not _NUMBER.fullmatch(text):
        raise Malformed("not a number")
    return int(text)


# -- answers -------------------------------------------------------------------------------------


def handshake(mechanisms: Iterable[bytes], pid: int, connection: int, cookie: bytes) -> bytes:
    """The server's half, complete at once: Exim says nothing before it.

    MECH comes before SPID; by that Postfix and Exim know the kind of socket.
    """
    lines = [
        b"VERSION\t%d\t%d" % (MAJOR_VERSION, MINOR_VERSION),
        *(b"MECH\t%b\tplaintext" % name for name in mechanisms),
        b"SPID\t%d" % pid,
        b"CUID\t%d" % connection,
        b"COOKIE\t" + cookie.hex().encode("ascii"),
        b"DONE",
    ]
    return b"".join(line + b"\n" for line in lines)


def challenge(number: int, data: bytes) -> bytes:
    """CONT: the client has to say more. The field is there even when it is empty."""
    return b"CONT\t%d\t%b\n" % (number, encode_challenge(data))


def success(number: int, user: str) -> bytes:
    """OK: ``user`` is the name of the account, which cannot hold a tab or a line end."""
    return b"OK\t%d\tuser=%b\n" % (number, user.encode("utf-8"))


def failure(number: int, reason: bytes, *flags: bytes) -> bytes:
    """FAIL: ``reason`` is told to whoever wants to log in; ``flags`` are ``temp`` and ``authz``.

    What was given as the name is not repeated: it may be a password in the wrong field, and clients log it.
    """
    return b"\t".join((b"FAIL", b"%d" % number, *flags, b"reason=" + reason)) + b"\n"
