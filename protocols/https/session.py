"""One connection to the door: one request, one response.

Nothing that is answered depends on whether an account exists. A GET changes nothing and looks up no
invitation, so a program that fetches links in advance uses none up; only the button on the page, a POST,
does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError

from mailstore.errors import AuthenticationFailed, PasswordUnusable, ScopeDenied, StoreError, TooManyLogins
from mailstore.model import AccessProtocol
from protocols.access_log import AccessLog, Entry, user_agent
from protocols.https import documents
from protocols.https.accounts import DoorAccounts, Joined
from protocols.https.connection import Connection, Refused, Request, Response
from protocols.https.facts import INVITE, WELCOME, SetupFacts
from protocols.https.pages import Pages, security_headers
from protocols.https.profile import CONTENT_TYPE as PROFILE
from protocols.https.profile import FILE_NAME, profile
from protocols.https.unseen import Unseen
from protocols.limits import AccessLogLimits, HttpsLimits
from protocols.login import AttemptGuard
from protocols.redact import correlation_id, incident
from protocols.sites import is_address
from protocols.transport import Channel, IdleTimeout

log = logging.getLogger("sealbox.https")

XML = "text/xml; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
TOKEN_MAX_CHARS = 100
"""More than any token has."""

AUTOCONFIG = ("/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml")
AUTODISCOVER = "/autodiscover/autodiscover.xml"
POLICY = "/.well-known/mta-sts.txt"
"""RFC 8461, section 3.3."""

_READ = ("GET", "HEAD")
_FORM = ("GET", "HEAD", "POST")
_RECEIVING = frozenset({AccessProtocol.IMAP, AccessProtocol.POP3})
"""One of them is in every profile."""
_T = TypeVar("_T")
_Route = tuple[str, tuple[str, ...], Callable[[Request], Awaitable[Response]]]
"""What is asked for, by which methods, and who answers."""


@dataclass(frozen=True, slots=True)
class HttpsServices:
    """What all connections share. ``clock`` is the reactor."""

    accounts: DoorAccounts
    guard: AttemptGuard
    facts: SetupFacts
    sign: Callable[[bytes], Awaitable[bytes]]
    """Signs a profile for Apple's devices."""
    limits: HttpsLimits
    log_limits: AccessLogLimits
    access_log: AccessLog
    clock: Any
    behind_proxy: bool
    """The client's address is the one that the proxy names."""
    unseen: Unseen


@dataclass(frozen=True, slots=True)
class _Given:
    """What a link was exchanged for, whatever button its visitor presses in the end."""

    made: Joined
    profile: bytes | None = field(repr=False)
    """For Apple's devices; None where the app password is not for receiving mail."""


class HttpsSession:
    """See the module's docstring."""

    def __init__(self, channel: Channel, services: HttpsServices) -> None:
        self._channel = channel
        self._services = services
        self._http = Connection(services.limits)
        self._pages = Pages(services.facts, services.limits)
        self._address = channel.address

    def end(self, reason: bytes) -> None:
        """The server stops; a request that is not complete is not waited for. ``reason`` is not said."""
        self._channel.wake()

    async def run(self) -> None:
        """The whole session; returns when the connection is to be closed."""
        try:
            asked = await self._request()
        except IdleTimeout:
            return
        if asked is None:
            return
        name, response = await self._answer(asked)
        data = self._http.answer(
            replace(response, headers=(*response.headers, *security_headers(self._services.facts)))
        )
        self._record(asked, name, response.status, len(data))
        await self._channel.write(data)

    async def _request(self) -> Request | Refused | None:
        """What the client asks for; None when it has gone, or the server stops."""
        limits, clock = self._services.limits, self._services.clock
        deadline_s = clock.seconds() + limits.request_timeout_s
        await self._channel.handshake(limits.request_timeout_s)
        while True:
            event = self._http.next_event()
            if isinstance(event, bytes):
                await self._channel.write(event)
            elif event is not None:
                return event
            else:
                data = await self._channel.read(deadline_s - clock.seconds())
                if data is None:
                    return None
                self._http.feed(data)

    async def _answer(self, asked: Request | Refused) -> tuple[str, Response]:
        """What was asked for, in a word for the access log, and the response."""
        if isinstance(asked, Refused):
            return "malformed", self._pages.message(asked.status)
        if self._services.behind_proxy:
            named = (asked.forwarded_for or b"").decode("ascii", "replace")
            if not is_address(named):
                log.error("the proxy in front of the HTTPS door does not name the client in X-Forwarded-For")
                return "malformed", self._pages.message(400)
            self._address = named
        name, methods, answer = self._route(asked)
        if asked.method not in methods:
            return name, replace(self._pages.message(405), headers=(("allow", ", ".join(methods)),))
        if asked.method == "POST" and asked.is_foreign:
            # It would count as the visitor's attempt, and delay his logins.
            return name, self._pages.message(403)
        try:
            return name, await answer(asked)
        except AuthenticationFailed:
            return name, self._pages.message(410)
        except TooManyLogins:
            return name, self._pages.message(429)
        except StoreError as error:
            log.error("%s", incident(name.encode("ascii"), correlation_id(), None, error))
            return name, self._pages.message(503)

    def _route(self, asked: Request) -> _Route:
        path = asked.path
        if path.startswith((INVITE, WELCOME)) and len(path) < TOKEN_MAX_CHARS:
            return (
                ("invite", _FORM, self._invite)
                if path.startswith(INVITE)
                else ("welcome", _FORM, self._welcome)
            )
        if path in AUTOCONFIG:
            return "autoconfig", _READ, self._autoconfig
        if path.lower() == AUTODISCOVER:
            return "autodiscover", _FORM, self._autodiscover
        if path == POLICY:
            return "mta-sts", _READ, self._policy
        return "nothing", _FORM, self._nothing

    async def _nothing(self, asked: Request) -> Response:
        return self._pages.message(404)

    async def _autoconfig(self, asked: Request) -> Response:
        domain = await self._domain(asked, asked.parameters().get("emailaddress"))
        if domain is None:
            return self._pages.message(404)
        return Response(200, XML, documents.autoconfig(self._services.facts, domain))

    async def _domain(self, asked: Request, address: str | None) -> str | None:
        """The domain that is asked about: that of an address, or else of the host that is asked."""
        if address:
            return await self._services.accounts.domain(address.rpartition("@")[2])
        host = asked.host
        for prefix in documents.PROGRAM_HOSTS:
            host = host.removeprefix(prefix)
        return await self._services.accounts.domain(host)

    async def _autodiscover(self, asked: Request) -> Response:
        said = documents.address_in_autodiscover(asked.body) if asked.body else None
        address = await self._services.accounts.address(said or asked.parameters().get("email", ""))
        if address is None:
            return self._pages.message(404)
        return Response(200, XML, documents.autodiscover(self._services.facts, address))

    async def _policy(self, asked: Request) -> Response:
        host = asked.host
        if not host.startswith(documents.POLICY_HOST):
            return self._pages.message(404)
        domain = await self._services.accounts.domain(host.removeprefix(documents.POLICY_HOST))
        if domain is None:
            return self._pages.message(404)
        return Response(200, TEXT, documents.policy(self._services.facts.policy))

    # -- invitations -----------------------------------------------------------------------------

    async def _invite(self, asked: Request) -> Response:
        if asked.method != "POST":
            return self._pages.invite(asked.path)
        wants_profile = asked.form().get("as") == "apple"
        token, usable = asked.path.removeprefix(INVITE), self._services.facts.offered
        if wants_profile:
            usable &= _RECEIVING
        try:
            given = await self._counted(token, partial(self._give, token, usable))
        except ScopeDenied:
            return self._pages.message(409)
        if not wants_profile or given.profile is None:
            return self._pages.joined(given.made)
        headers = (("content-disposition", f'attachment; filename="{FILE_NAME}"'),)
        return Response(200, PROFILE, given.profile, headers)

    async def _give(self, token: str, usable: frozenset[AccessProtocol]) -> _Given:
        """Whatever takes time once the link is used up is part of the exchange, so that it is kept."""
        facts = self._services.facts
        made = await self._services.accounts.join(token, usable)
        allowed = frozenset(filter(made.allows, facts.offered))
        if not allowed & _RECEIVING:
            return _Given(made, None)
        content = profile(facts, made.name, made.app_password, allowed)
        return _Given(made, await self._signed(content))

    async def _signed(self, content: bytes) -> bytes:
        """The profile; without a signature where that fails, as the password in it is shown only once."""
        try:
            return await self._services.sign(content)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is: the link is used up
            log.error("a profile could not be signed: %s", type(error).__name__)
            return content

    async def _welcome(self, asked: Request) -> Response:
        if asked.method != "POST":
            return self._pages.welcome(asked.path)
        form, limits = asked.form(), self._services.limits
        password, least, most = form.get("password", ""), limits.password_min_chars, limits.password_max_chars
        if password != form.get("again", ""):
            return self._pages.welcome(asked.path, "The two passwords are not the same.")
        if not least <= len(password) <= most:
            return self._pages.welcome(asked.path, f"The password has to have {least} to {most} characters.")
        token = asked.path.removeprefix(WELCOME)
        try:
            made = await self._counted(
                token, partial(self._services.accounts.welcome, token, password.encode("utf-8"))
            )
        except PasswordUnusable:
            return self._pages.welcome(asked.path, "This cannot be a password. Choose another one.")
        return self._pages.welcomed(made, INVITE + made.device)

    async def _counted(self, token: str, exchange: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Try an invitation after the wait that its site and its id have earned, as at a login.

        What cannot be a secret, as a link of which a line is missing, is no guess and does not count.
        """
        guard, unseen = self._services.guard, self._services.unseen
        if not self._services.accounts.is_token(token):
            raise AuthenticationFailed
        attempt = await guard.begin(self._address, b"invitation " + token[:8].encode("utf-8"))
        try:
            return await guard.proven(attempt, unseen.exchange(token, attempt.site, exchange))
        except ScopeDenied:
            guard.take_back(attempt)  # the secret is right, and the other button may be
            raise

    def _record(self, asked: Request | Refused, name: str, status: int, sent: int) -> None:
        """Never the path: it may be an invitation."""
        services = self._services
        method, agent = ("-", b"") if isinstance(asked, Refused) else (asked.method, asked.user_agent)
        services.access_log.record(
            Entry(
                self._address,
                user_agent(((b"name", agent),), services.log_limits),
                f"{method if method in _FORM else '-'} {name}",
                sent,
                str(status),
                failed=status >= 400,
            )
        )
