"""The table of commands: how each is parsed and where it is legal. Pure.

``parse_command`` is the only way from a line to a request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from protocols.limits import Pop3Limits
from protocols.pop3 import requests as ask


class State(Enum):
    """The states of RFC 1939 section 3, the first one split by whether TLS is still missing."""

    PLAINTEXT = "before STLS"
    AUTHORIZATION = "before login"
    TRANSACTION = "after login"


class Malformed(Exception):
    """The arguments do not fit the command; the text is fixed."""


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One row of the table."""

    name: bytes
    parse: Callable[[bytes | None, Pop3Limits], ask.Request]
    states: frozenset[State]


_ANY = frozenset(State)
_TLS = frozenset({State.AUTHORIZATION, State.TRANSACTION})
_LOGIN = frozenset({State.AUTHORIZATION})
_MAILDROP = frozenset({State.TRANSACTION})

_NUMBER = re.compile(rb"[0-9]{1,10}")
_MECHANISM = re.compile(rb"[A-Za-z0-9_-]{1,20}")
_TAG = re.compile(rb"\*|[A-Za-z0-9]{1,8}(?:-[A-Za-z0-9]{1,8}){0,8}")
_FOREIGN = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) .*\bHTTP/[0-9]|"
    rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) (?:/|https?:)|(?:EHLO|HELO|LHLO)(?: |\Z)|\x16\x03",
    re.DOTALL,
)
VERB_MAX_BYTES = 8


def is_foreign(text: bytes) -> bool:
    """Whether a line is HTTP, SMTP or a TLS handshake: nothing behind it can be POP3."""
    return _FOREIGN.match(text) is not None


def verb_of(line: bytes) -> bytes:
    """The keyword in upper case; empty when it cannot be one."""
    verb = line.partition(b" ")[0]
    return verb.upper() if len(verb) <= VERB_MAX_BYTES and verb.isalnum() else b""


def find_command(line: bytes) -> CommandSpec | None:
    """The row for a line; None when there is no such command."""
    return COMMANDS.get(verb_of(line))


def parse_arguments(spec: CommandSpec, line: bytes, limits: Pop3Limits) -> ask.Request:
    """The request that a line makes. Raises Malformed."""
    _, space, argument = line.partition(b" ")
    if b"\r" in argument or b"\0" in argument:
        raise Malformed("CR and NUL are not allowed")
    return spec.parse(argument if space else None, limits)


def _words(argument: bytes | None, least: int, most: int) -> list[bytes]:
    words = (argument or b"").split()
    if len(words) < least:
        raise Malformed("argument missing")
    if len(words) > most:
        raise Malformed("too many arguments")
    return words


def _number(word: bytes) -> int:
    if not _NUMBER.fullmatch(word):
        raise Malformed("not a number")
    return int(word)


def _maybe_number(argument: bytes | None) -> int | None:
    words = _words(argument, 0, 1)
    return _number(words[0]) if words else None


def _one_number(argument: bytes | None) -> int:
    return _number(_words(argument, 1, 1)[0])


def _nothing(request: ask.Request) -> Callable[[bytes | None, Pop3Limits], ask.Request]:
    def parse(argument: bytes | None, _limits: Pop3Limits) -> ask.Request:
        _words(argument, 0, 0)
        return request

    return parse


def _user(argument: bytes | None, _limits: Pop3Limits) -> ask.Request:
    name = (argument or b"").strip(b" ")
    if not name:
        raise Malformed("argument missing")
    return ask.User(name)


def _pass(argument: bytes | None, _limits: Pop3Limits) -> ask.Request:
    if not argument:
        raise Malformed("argument missing")
    return ask.Pass(argument)


def _auth(argument: bytes | None, _limits: Pop3Limits) -> ask.Request:
    words = _words(argument, 0, 2)
    if not words:
        return ask.Mechanisms()
    if not _MECHANISM.fullmatch(words[0]):
        raise Malformed("not a mechanism")
    initial = words[1] if len(words) == 2 else None
    # "=" is an empty initial response (RFC 5034 section 4).
    return ask.Auth(words[0].upper(), b"" if initial == b"=" else initial)


def _top(argument: bytes | None, limits: Pop3Limits) -> ask.Request:
    number, lines = _words(argument, 2, 2)
    return ask.Top(_number(number), min(_number(lines), limits.top_lines_max))


def _lang(argument: bytes | None, _limits: Pop3Limits) -> ask.Request:
    words = _words(argument, 0, 1)
    if not words:
        return ask.Lang()
    if not _TAG.fullmatch(words[0]):
        raise Malformed("not a language tag")
    return ask.Lang(words[0].lower())


def _row(
    name: bytes, parse: Callable[[bytes | None, Pop3Limits], ask.Request], states: frozenset[State]
) -> tuple[bytes, CommandSpec]:
    return name, CommandSpec(name, parse, states)


COMMANDS: dict[bytes, CommandSpec] = dict(
    (
        _row(b"CAPA", _nothing(ask.Capa()), _ANY),
        _row(b"STLS", _nothing(ask.Stls()), frozenset({State.PLAINTEXT, State.AUTHORIZATION})),
        _row(b"QUIT", _nothing(ask.Quit()), _ANY),
        _row(b"USER", _user, _LOGIN),
        _row(b"PASS", _pass, _LOGIN),
        _row(b"AUTH", _auth, _LOGIN),
        _row(b"UTF8", _nothing(ask.Utf8()), _LOGIN),
        _row(b"LANG", _lang, _TLS),
        _row(b"STAT", _nothing(ask.Stat()), _MAILDROP),
        _row(b"LIST", lambda argument, _: ask.Scan(_maybe_number(argument)), _MAILDROP),
        _row(b"UIDL", lambda argument, _: ask.Uidl(_maybe_number(argument)), _MAILDROP),
        _row(b"RETR", lambda argument, _: ask.Retr(_one_number(argument)), _MAILDROP),
        _row(b"TOP", _top, _MAILDROP),
        _row(b"DELE", lambda argument, _: ask.Dele(_one_number(argument)), _MAILDROP),
        _row(b"RSET", _nothing(ask.Rset()), _MAILDROP),
        _row(b"NOOP", _nothing(ask.Noop()), _MAILDROP),
    )
)


def capabilities(
    state: State, stls_offered: bool, mechanisms: tuple[bytes, ...], login_delay_s: int
) -> tuple[bytes, ...]:
    """What CAPA lists (RFC 2449 section 6): no more and no less than what works in this state.

    ``login_delay_s`` is the account's own after login, before it the longest that any account has; there
    USER says that more can be known later (section 6.5).
    """
    always = (b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER")
    user = b"" if state is State.TRANSACTION else b" USER"
    delay = (b"LOGIN-DELAY %d%s" % (login_delay_s, user),) if login_delay_s else ()
    if state is State.PLAINTEXT:
        first: tuple[bytes, ...] = (b"STLS",) if stls_offered else ()
    else:
        first = (b"USER", b"SASL " + b" ".join(mechanisms), b"UTF8", b"LANG")
    return (*first, *always, *delay, b"IMPLEMENTATION Sealbox")
