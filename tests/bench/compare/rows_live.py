"""Rows about several sessions at once: who hears of new mail and when, logins, and the busy hour."""

from __future__ import annotations

import random
import re
import selectors
import ssl
import time
from collections.abc import Callable

from tests.bench import mail_sample
from tests.bench.compare import corpus
from tests.bench.compare.peers import USER, Peer, appended, pause
from tests.bench.compare.play import Figure, Outcome, Row, Unit, Work, percentile
from tests.bench.compare.rows_write import together
from tests.bench.compare.size import Size
from tests.bench.raw_imap import RawImap

LISTENER = "listener@example.org"
"""Whose sessions wait for new mail."""

TOLD_S = 60.0
GAP_S = 0.05
"""Between two messages: a person's mail does not come back to back."""


def load_user(number: int) -> str:
    """An account of the mixed load."""
    return f"load{number}@example.org"


class Listeners:
    """Sessions in IDLE, all looked at by one thread."""

    def __init__(self, peer: Peer, count: int) -> None:
        self._looking = selectors.DefaultSelector()
        self._clients = [peer.imap(LISTENER) for _ in range(count)]
        for client in self._clients:
            client.play(b"SELECT INBOX")
            client.idle()
            client.socket.setblocking(False)
            self._looking.register(client.socket, selectors.EVENT_READ)
        self._mailer = peer.lmtp()
        peer.keep(self.close)

    def _hears(self, connection: ssl.SSLSocket) -> bool:
        """Read all that is there; whether it tells of new mail."""
        heard = b""
        while True:
            try:
                more = connection.recv(65_536)
            except ssl.SSLWantReadError:
                return b" EXISTS" in heard
            if not more:
                raise ConnectionError("the server closed the connection")
            heard += more

    def deliver(self, data: bytes) -> float:
        """One message: seconds from LMTP's reply until the last session is told; 0 when it was before."""
        waiting = {client.socket for client in self._clients}
        self._mailer.deliver(LISTENER.encode(), data)
        began = told = time.perf_counter()
        while waiting:
            ready = self._looking.select(TOLD_S)
            if not ready:
                raise TimeoutError("a session in IDLE was not told of new mail")
            for key, _ in ready:
                connection = key.fileobj
                assert isinstance(connection, ssl.SSLSocket)
                if self._hears(connection):
                    waiting.discard(connection)
                    told = time.perf_counter()
        return told - began

    def close(self) -> None:
        """Hang up."""
        self._looking.close()
        self._mailer.close()
        for client in self._clients:
            client.close()


def told_rows(size: Size) -> list[Row]:
    """How soon sessions in IDLE hear of a message that LMTP has taken."""

    def listening(count: int) -> Callable[[Peer, int], Work]:
        listeners: dict[str, Listeners] = {}

        def prepare(peer: Peer, turn: int) -> Work:
            if not turn:
                listeners[peer.kind] = Listeners(peer, count)
            mail = [mail_sample.plain_10k(turn * size.told + at) for at in range(size.told)]

            def run() -> Outcome:
                taken = []
                for data in mail:
                    pause(GAP_S)
                    taken.append(listeners[peer.kind].deliver(data))
                return Outcome(latencies=tuple(taken))

            return Work(run, size.told)

        return prepare

    one = (
        Figure("LMTP reply to EXISTS, p50", Unit.MS, at_most=3.0, value=percentile(50)),
        Figure("LMTP reply to EXISTS, p99", Unit.MS, at_most=10.0, value=percentile(99)),
    )
    all_told = f"LMTP reply to EXISTS in all of {size.sessions} sessions"
    many = (
        Figure(f"{all_told}, p50", Unit.MS, at_most=5.0, value=percentile(50)),
        Figure(f"{all_told}, p99", Unit.MS, value=percentile(99)),
    )
    return [Row("told-one", one, listening(1)), Row("told-many", many, listening(size.sessions))]


def login_rows(size: Size) -> list[Row]:
    """Further logins: somebody else of the account is in."""

    def prepare(peer: Peer, _: int) -> Work:
        peer.session("INBOX")

        def run() -> Outcome:
            for _ in range(size.few):
                peer.imap(USER).close()
            return Outcome()

        return Work(run, size.few)

    figure = Figure("further login: TCP, TLS and LOGIN", Unit.MS, times=2.0)
    return [Row("login", (figure,), prepare, grows=True)]


COMMANDS_ONCE, COMMANDS_AGAIN = 2, 9
"""What a client of the mixed load asks once, and what it asks each time that it looks at its mail."""


class Client:
    """One client of the mixed load: comes, looks around, files and cleans up some times, goes."""

    def __init__(self, peer: Peer, number: int, turn: int, size: Size) -> None:
        self._peer = peer
        self._user = load_user(number % size.load_users)
        self._random = random.Random(1000 * turn + number)
        self._last = max(size.load_messages - 50, 1)
        self._new = [corpus.message(50_000 + 100 * turn + number + at) for at in range(size.rounds)]

    def session(self) -> float:
        """All of it; seconds that the login took."""
        began = time.perf_counter()
        client = self._peer.imap(self._user)
        taken = time.perf_counter() - began
        client.play(b'LIST "" *')
        for data, date in self._new:
            self._look(client, data, date)
        client.close()
        return taken

    def _look(self, client: RawImap, data: bytes, date: int) -> None:
        first = self._random.randrange(self._last) + 1
        word = corpus.word(self._random.randrange(corpus.WORDS)).encode()
        client.play(b"SELECT INBOX")
        client.play(b"UID FETCH %d:%d (FLAGS ENVELOPE)" % (first, first + 49))
        client.play(b"UID FETCH %d (BODY.PEEK[])" % first)
        client.play(b"UID SEARCH SUBJECT " + word)
        client.play(b"UID STORE %d +FLAGS (\\Seen)" % first)
        client.play(b"UID COPY %d Copies" % first)
        uid = self._append(client, data, date)
        client.play(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % uid)
        client.play(b"UID EXPUNGE %d" % uid)

    def _append(self, client: RawImap, data: bytes, date: int) -> int:
        reply = client.command(b"APPEND INBOX" + appended(data, date))
        found = re.search(rb"APPENDUID \d+ (\d+)", reply.raw)
        assert found is not None, "APPEND does not say which UID the message has"
        return int(found[1])


def mixed_rows(size: Size) -> list[Row]:
    """The busy hour."""
    commands = COMMANDS_ONCE + COMMANDS_AGAIN * size.rounds

    def prepare(peer: Peer, turn: int) -> Work:
        clients = [Client(peer, number, turn, size) for number in range(size.clients)]
        logins: list[float] = []

        def one(number: int) -> None:
            logins.append(clients[number].session())
            if not number:
                peer.look_at_memory()

        def run() -> Outcome:
            together(one, size.clients)
            return Outcome(latencies=tuple(logins))

        return Work(run, size.clients * commands)

    figures = (
        Figure(f"mixed load, {size.clients} clients", Unit.PER_S, times=0.7),
        Figure("mixed load: login, p99", Unit.MS, times=5.0, value=percentile(99)),
    )
    return [Row("mixed", figures, prepare)]
