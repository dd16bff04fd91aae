"""One connection of nginx: one question, one answer.

No password is looked at, so that a login by way of the proxy costs one run of Argon2, at the node. The answer
depends on the login name alone, and a name that nobody has is on some node, too: nothing is learnt here that
a login would not tell.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mailstore.errors import StoreError
from protocols.access_log import AccessLog, Entry
from protocols.auth_http import grammar
from protocols.auth_http.grammar import Malformed, Question, Questions
from protocols.auth_http.pace import Pace
from protocols.errors import Meaning, meaning_of
from protocols.limits import AuthHttpLimits
from protocols.redact import correlation_id, incident
from protocols.seldom import Seldom
from protocols.transport import Channel, IdleTimeout

log = logging.getLogger("sealbox.auth_http")

COMMAND = "AUTH-HTTP"

FindDoor = Callable[[bytes, str], Awaitable[str | None]]
"""By login name and protocol: IP:PORT of the node, None where it has no such door. Raises StoreError."""


@dataclass(frozen=True, slots=True)
class AuthHttpServices:
    """What all connections of a port share. ``clock`` is the reactor."""

    find_door: FindDoor
    pace: Pace
    limits: AuthHttpLimits
    name_max_bytes: int
    access_log: AccessLog
    clock: Any
    seldom: Seldom


class AuthHttpSession:
    """See the module's docstring."""

    def __init__(self, channel: Channel, services: AuthHttpServices) -> None:
        self._channel = channel
        self._services = services

    def end(self, reason: bytes) -> None:
        """The server stops; a question that is not complete is not waited for. ``reason`` is not said."""
        self._channel.wake()

    async def run(self) -> None:
        """The whole session; returns when the connection is to be closed."""
        try:
            question = await self._question()
        except IdleTimeout:
            return
        except Malformed as error:
            if self._services.seldom.may_say(str(error)):
                log.warning("%s: is it nginx's auth_http that asks, with PLAIN or LOGIN?", error)
            self._record("", "malformed", str(error.status), failed=True)
            await self._channel.write(grammar.refused(error.status))
            return
        if question is not None:
            await self._channel.write(await self._answer(question))

    async def _question(self) -> Question | None:
        """What nginx asks; None when it has gone, or the server stops."""
        limits, clock = self._services.limits, self._services.clock
        deadline_s = clock.seconds() + limits.request_timeout_s
        await self._channel.handshake(limits.request_timeout_s)
        questions = Questions(limits.head_max_bytes)
        while True:
            data = await self._channel.read(deadline_s - clock.seconds())
            if data is None:
                return None
            question = questions.feed(data)
            if question is not None:
                return question

    async def _answer(self, question: Question) -> bytes:
        services = self._services
        if not services.pace.may_ask(question.client):
            return self._later(question, "often")
        if not 0 < len(question.name) <= services.name_max_bytes:
            self._record(question.client, question.protocol, "wrong", failed=True)
            return grammar.wrong(question.protocol)
        try:
            door = await services.find_door(question.name, question.protocol)
        except StoreError as error:
            if meaning_of(error) is not Meaning.TRY_LATER:
                log.error("%s", incident(COMMAND.encode("ascii"), correlation_id(), None, error))
            return self._later(question, "error", failed=True)
        if door is None:
            return self._later(question, "nowhere", failed=True)
        return grammar.found(door)

    def _later(self, question: Question, result: str, *, failed: bool = False) -> bytes:
        self._record(question.client, question.protocol, result, failed=failed)
        return grammar.later(question.protocol)

    def _record(self, client: str, what: str, result: str, *, failed: bool) -> None:
        """Only what was not answered: the login itself is in the log of the node. Never the name."""
        self._services.access_log.record(Entry(client, "", f"{COMMAND} {what}", 0, result, failed))
