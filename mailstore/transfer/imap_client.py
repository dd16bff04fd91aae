"""A connection to another IMAP server: TLS, one login, reading only, and patience when it breaks.

``imaplib`` keeps whatever a server sends; here no literal is longer than a message may be.
"""

from __future__ import annotations

import imaplib
import re
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mailstore.transfer.imap_responses import (
    Facts,
    Listed,
    Malformed,
    Token,
    facts_of,
    fetched,
    listed,
    namespace_prefix,
    responses,
)
from mailstore.transfer.source import SourceUnavailable, SourceUnusable

TIMEOUT_S = 120.0
"""Seconds that the other server may be silent."""

ATTEMPTS = 6
"""How often something is tried when the connection breaks or the server asks for patience."""

FIRST_PAUSE_S = 2.0
"""Seconds before the second attempt; each further pause is twice as long."""

FACTS_AT_ONCE = 1_000
"""Messages whose sizes, dates and flags are asked for at once."""

_PATIENCE = re.compile(rb"\[(THROTTLED|UNAVAILABLE|INUSE|LIMIT|SERVERBUG)", re.IGNORECASE)
_LINE_SLACK_BYTES = 64 * 1024
_SECURE, _STARTTLS = ("imap", "imaps"), "imap+starttls"
T = TypeVar("T")


class TooLong(imaplib.IMAP4.abort):
    """The server sends more than a message may have; the connection cannot be used any more."""


@dataclass(frozen=True, slots=True)
class ImapPlace:
    """Whose mail on which server. ``certificates`` are trusted instead of the system's, where given."""

    host: str
    port: int
    starttls: bool
    user: str = field(repr=False)
    password: bytes = field(repr=False)
    certificates: Path | None = None


def imap_place(url: str, password: bytes, certificates: Path | None = None) -> ImapPlace:
    """The place of ``imap://USER@HOST[:PORT]`` (TLS, port 993) or ``imap+starttls://...`` (port 143).

    ``USER`` may have an ``@`` in it. Raises SourceUnusable.
    """
    parts = urlsplit(url)
    user, at, server = parts.netloc.rpartition("@")
    try:
        host, port = urlsplit(f"//{server}").hostname, urlsplit(f"//{server}").port
    except ValueError:
        host, port = None, None
    if parts.scheme not in (*_SECURE, _STARTTLS) or not (user and at and host) or parts.path.strip("/"):
        raise SourceUnusable("write imap://USER@HOST, or imap+starttls://USER@HOST")
    if ":" in user:
        raise SourceUnusable("no password in the address, please: it is asked for, or read from a file")
    starttls = parts.scheme == _STARTTLS
    return ImapPlace(
        host, port or (143 if starttls else 993), starttls, unquote(user), password, certificates
    )


class _Bounded:
    """What both kinds of connection have in common: no literal is longer than ``most_bytes``."""

    most_bytes = 0

    def read(self, size: int) -> bytes:
        """As ``imaplib.IMAP4.read``. Raises TooLong."""
        if size > self.most_bytes:
            raise TooLong("the server sends too much")
        data: bytes = super().read(size)  # type: ignore[misc]  # that of imaplib's classes
        return data


class _Tls(_Bounded, imaplib.IMAP4_SSL):
    """TLS from the first octet on."""


class _StartTls(_Bounded, imaplib.IMAP4):
    """TLS by STARTTLS."""


class ImapClient:
    """One account on the other server, opened for reading. It connects again when the connection breaks.

    Its methods raise SourceUnusable: the server refuses, is not there, or does not speak IMAP.
    """

    def __init__(
        self, place: ImapPlace, max_message_bytes: int, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """``pause(s)`` waits for so many seconds."""
        self._place = place
        self._most_bytes = max_message_bytes + _LINE_SLACK_BYTES
        self._pause = pause
        self._connection: _Tls | _StartTls | None = None
        self._examined: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Say goodbye, if anybody listens."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.logout()
            except (imaplib.IMAP4.error, OSError):
                _hang_up(connection)

    def mailboxes(self) -> list[tuple[Listed, bool]]:
        """All mailboxes that can be selected, and whether they are subscribed."""
        return self._patiently(self._mailboxes)

    def examine(self, wire: bytes) -> int | None:
        """Open a mailbox for reading; the number of its messages. None where the server does not let us."""
        self._examined = None
        return self._patiently(lambda connection: self._examine(connection, wire))

    def facts(self, count: int) -> list[Facts]:
        """What is known of the first ``count`` messages of the mailbox, by ascending UID."""
        found: dict[int, Facts] = {}
        for first in range(1, count + 1, FACTS_AT_ONCE):
            # By number: while nothing else is asked, the server may not renumber (RFC 3501 section 7.4.1).
            numbers = f"{first}:{min(first + FACTS_AT_ONCE - 1, count)}"
            step = partial(_fetch, kind="", numbers=numbers, items="(UID FLAGS INTERNALDATE RFC822.SIZE)")
            for items in self._patiently(step) or ():
                facts = _checked(facts_of, items)
                if facts is not None:
                    found[facts.uid] = facts
        return [found[uid] for uid in sorted(found)]

    def contents(self, uids: Iterable[int], section: str) -> dict[int, bytes | None] | None:
        """``BODY[section]`` of messages by their UIDs; those that are gone are missing.

        A message is None whose content the server will not give. None where it refuses them all together.
        Raises TooLong: one of them is longer than the server has said.
        """
        wanted, item = ",".join(map(str, uids)), f"BODY[{section}]".encode("ascii")
        found = self._patiently(lambda one: _fetch(one, "UID", wanted, f"(UID BODY.PEEK[{section}])"))
        if found is None:
            return None
        contents: dict[int, bytes | None] = {}
        for items in found:
            uid, data = items.get(b"UID"), items.get(item)
            if item in items and isinstance(uid, bytes) and uid.isdigit():
                contents[int(uid)] = data if isinstance(data, bytes) else None
        return contents

    def _patiently(self, step: Callable[[Any], T]) -> T:
        """Do ``step(connection)``; where the connection breaks or the server asks to wait, do it again."""
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return step(self._connected())
            except TooLong:
                self._drop()
                raise
            except Malformed:
                raise SourceUnusable("the server does not speak IMAP as it should") from None
            except ssl.SSLCertVerificationError as error:
                raise SourceUnusable(
                    f"the certificate of {self._server} is not trusted ({error.verify_message.rstrip('.')}):"
                    " use the name that is in it, or see --tls-ca"
                ) from None
            except (imaplib.IMAP4.abort, OSError) as error:
                self._drop()
                if attempt == ATTEMPTS:
                    raise SourceUnavailable(
                        f"the connection to {self._server} fails ({_why(error)}): check host and port, or run"
                        " it again later"
                    ) from None
            except imaplib.IMAP4.error as error:
                if not _PATIENCE.search(str(error).encode()):
                    raise SourceUnusable("the server refuses what is asked for") from None
                if attempt == ATTEMPTS:
                    raise SourceUnavailable("the server is busy: run it again later") from None
            self._pause(pause_s)
            pause_s *= 2
        raise AssertionError

    @property
    def _server(self) -> str:
        return f"{self._place.host}:{self._place.port}"

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _hang_up(connection)

    def _connected(self) -> _Tls | _StartTls:
        if self._connection is None:
            self._connection = self._connect()
            if self._examined is not None:
                wire, validity = self._examined
                self._examine(self._connection, wire)
                if self._examined[1] != validity:
                    raise SourceUnusable("a mailbox was replaced meanwhile: run the import again")
        return self._connection

    def _connect(self) -> _Tls | _StartTls:
        place = self._place
        try:
            context = ssl.create_default_context(cafile=place.certificates)
        except (OSError, ssl.SSLError):
            raise SourceUnusable("the file of --tls-ca cannot be read: it has to be PEM") from None
        connection: _Tls | _StartTls
        if place.starttls:
            connection = _StartTls(place.host, place.port, TIMEOUT_S)
        else:
            connection = _Tls(place.host, place.port, ssl_context=context, timeout=TIMEOUT_S)
        connection.most_bytes = self._most_bytes
        try:
            if isinstance(connection, _StartTls):
                connection.starttls(ssl_context=context)
            self._log_in(connection)
        except BaseException:
            _hang_up(connection)
            raise
        return connection

    def _log_in(self, connection: _Tls | _StartTls) -> None:
        user, password = self._place.user.encode(), self._place.password
        try:
            if "AUTH=PLAIN" in connection.capabilities:
                connection.authenticate("PLAIN", lambda _challenge: b"\0" + user + b"\0" + password)
            else:
                connection.login(_quoted(user), password.decode("utf-8"))
        except imaplib.IMAP4.abort:
            raise
        except (imaplib.IMAP4.error, UnicodeError) as error:
            if _PATIENCE.search(str(error).encode()):
                raise
            raise SourceUnusable(f"{self._server} refuses the name or the password") from None
        connection.capabilities = tuple(
            b" ".join(_ok(connection.capability())).decode("ascii", "replace").split()
        )

    def _mailboxes(self, connection: _Tls | _StartTls) -> list[tuple[Listed, bool]]:
        said = {one.upper() for one in connection.capabilities}
        prefix = ""
        if "NAMESPACE" in said:
            prefix = next(map(namespace_prefix, responses(_ok(connection.namespace()))), "")
        pattern = "* RETURN (SPECIAL-USE)" if {"LIST-EXTENDED", "SPECIAL-USE"} <= said else "*"
        found = [listed(one, prefix) for one in responses(_ok(connection.list('""', pattern)))]
        subscribed = {one.wire for one in map(_subscribed, responses(_ok(connection.lsub('""', "*")))) if one}
        return [(one, one.wire in subscribed) for one in found if one is not None]

    def _examine(self, connection: _Tls | _StartTls, wire: bytes) -> int | None:
        connection.untagged_responses.clear()
        name: Any = _quoted(wire)
        kind, data = connection.select(name, readonly=True)
        if kind != "OK":
            if _PATIENCE.search(data[0] or b""):
                raise imaplib.IMAP4.error(data[0])
            return None
        validity = connection.response("UIDVALIDITY")[1]
        first = validity[0] if validity else None
        self._examined = wire, int(first) if isinstance(first, bytes) and first.isdigit() else 0
        return int(data[0] or 0)


def _why(error: Exception) -> str:
    """The system's word for what went wrong; nothing that a server has said."""
    match error:
        case ssl.SSLError():
            return f"no TLS: {(error.reason or 'unknown').lower().replace('_', ' ')}"
        case TimeoutError():
            return "it does not answer"
        case OSError() if error.strerror:
            return error.strerror
        case _:
            return "it hangs up"


def _hang_up(connection: Any) -> None:
    with suppress(OSError):  # as when the handshake has failed
        connection.shutdown()


def _fetch(connection: Any, kind: str, numbers: str, items: str) -> list[dict[bytes, Token]] | None:
    """The FETCH responses to a command; None where the server says NO. Raises Malformed."""
    if kind == "UID":
        answer, data = connection.uid("FETCH", numbers, items)
    else:
        answer, data = connection.fetch(numbers, items)
    if answer != "OK":
        if data and isinstance(data[0], bytes) and _PATIENCE.search(data[0]):
            raise imaplib.IMAP4.error(data[0])
        return None
    return [fetched(one) for one in responses(data)]


def _ok(answer: tuple[str, list[Any]]) -> list[Any]:
    """The data of a command that went well. Raises imaplib's error."""
    kind, data = answer
    if kind != "OK":
        raise imaplib.IMAP4.error(data[0] if data else kind)
    return data


def _checked(read: Callable[[dict[bytes, Token]], Facts | None], items: dict[bytes, Token]) -> Facts | None:
    try:
        return read(items)
    except Malformed:
        raise SourceUnusable("the server does not speak IMAP as it should") from None


def _subscribed(pieces: Any) -> Listed | None:
    try:
        return listed(pieces, "")
    except Malformed:
        return None


def _quoted(text: bytes) -> Any:
    """A quoted string (RFC 3501 section 9); ``imaplib`` takes octets where it says str."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
