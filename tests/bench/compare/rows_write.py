"""Rows that change mail: flags, APPEND, COPY, MOVE, EXPUNGE; deliveries; and POP3's downloads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.bench import mail_sample
from tests.bench.compare import corpus
from tests.bench.compare.peers import Peer, appended
from tests.bench.compare.play import Figure, Outcome, Row, Unit, Work
from tests.bench.compare.rows_read import playing
from tests.bench.compare.size import Size
from tests.bench.raw_mail import RawLmtp, RawPop3

LMTP_CONNECTIONS = 8
RECIPIENTS = [f"deliver{number}@example.org" for number in range(LMTP_CONNECTIONS)]
MULTIAPPEND = 100


def store_rows(size: Size) -> list[Row]:
    """STORE; every turn changes what the turn before has set."""

    def sign(turn: int) -> bytes:
        return b"+" if turn % 2 else b"-"

    def one(peer: Peer, turn: int) -> Work:
        step = max(size.messages // size.few, 1)
        numbers = [1 + step * at % size.messages for at in range(size.few)]
        lines = [b"STORE %d %sFLAGS (\\Flagged)" % (number, sign(turn)) for number in numbers]
        return playing(peer.session("INBOX"), lines)

    def many(peer: Peer, turn: int) -> Work:
        count = min(size.stored, size.messages)
        line = b"STORE 1:%d %sFLAGS (\\Seen)" % (count, sign(turn))
        return playing(peer.session("INBOX"), [line], count)

    return [
        Row("store-one", (Figure("STORE of one message", Unit.MS, times=0.6),), one, grows=True),
        Row("store-many", (Figure(f"STORE of {size.stored:,} messages", Unit.PER_S, times=0.4),), many),
    ]


def append_rows(size: Size) -> list[Row]:
    """APPEND of new messages to a mailbox of their own."""

    def fresh(turn: int, count: int) -> list[bytes]:
        first = size.messages + turn * count
        return [appended(data, date) for data, date in corpus.messages(first, count)]

    def ready(peer: Peer, lines: list[bytes], operations: int = 0) -> Work:
        client = peer.session("INBOX")
        return playing(client, [b"APPEND Appended" + line for line in lines], operations)

    def one(peer: Peer, turn: int) -> Work:
        return ready(peer, fresh(turn, size.few))

    def together(peer: Peer, turn: int) -> Work:
        return ready(peer, [b"".join(fresh(turn, MULTIAPPEND))], MULTIAPPEND)

    def large(peer: Peer, turn: int) -> Work:
        count = max(size.few // 5, 1)
        mail = [mail_sample.large(1000 + turn * count + at) for at in range(count)]
        return ready(peer, [appended(data, 1_700_000_000) for data in mail])

    return [
        Row("append-one", (Figure("APPEND of one message", Unit.PER_S, times=1.0),), one),
        Row("append-many", (Figure(f"MULTIAPPEND of {MULTIAPPEND}", Unit.PER_S, times=0.5),), together),
        Row("append-large", (Figure("APPEND of 1-5 MB", Unit.PER_S, times=0.9),), large, leaves_work=True),
    ]


def move_rows(size: Size) -> list[Row]:
    """COPY, MOVE and EXPUNGE of a block of messages."""
    count = min(size.block, size.messages)
    block = b"1:%d" % count

    def copy(peer: Peer, _: int) -> Work:
        return playing(peer.session("INBOX"), [b"COPY %s Copies" % block], count)

    def move(peer: Peer, _: int) -> Work:
        client = peer.session("INBOX", "moving")
        client.play(b"SELECT INBOX")
        client.play(b"COPY %s Copies" % block)
        client.play(b"SELECT Copies")
        return playing(client, [b"MOVE %s Moved" % block], count)

    def expunge(peer: Peer, _: int) -> Work:
        client = peer.session("INBOX", "expunging")
        client.play(b"SELECT INBOX")
        client.play(b"COPY %s Gone" % block)
        client.play(b"SELECT Gone")
        client.play(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
        return playing(client, [b"EXPUNGE"], count)

    return [
        Row(name.lower(), (Figure(f"{name} of {size.block}", Unit.PER_S, times=1.0),), prepare)
        for name, prepare in (("COPY", copy), ("MOVE", move), ("EXPUNGE", expunge))
    ]


def lmtp_rows(size: Size) -> list[Row]:
    """Deliveries of 10 KB to users who are not in, each connection to one of its own."""

    def delivering(connections: int) -> Callable[[Peer, int], Work]:
        clients: dict[str, list[RawLmtp]] = {}

        def prepare(peer: Peer, turn: int) -> Work:
            if not turn:
                clients[peer.kind] = [peer.lmtp() for _ in range(connections)]
                for client in clients[peer.kind]:
                    peer.keep(client.close)
            each = max(size.deliveries // (1 if connections == 1 else 2), 1)
            mail = [mail_sample.plain_10k(turn * each + at) for at in range(each)]

            def deliver(at: int) -> None:
                for data in mail:
                    clients[peer.kind][at].deliver(RECIPIENTS[at].encode(), data)

            return Work(lambda: together(deliver, connections), each * connections)

        return prepare

    return [
        Row(
            f"lmtp-{count}",
            (Figure(f"LMTP, {count} connection{'s' * (count > 1)}", Unit.PER_S, times=goal),),
            prepare,
        )
        for count, goal in ((1, 2.0), (LMTP_CONNECTIONS, 1.5))
        for prepare in (delivering(count),)
    ]


def together(work: Callable[[int], None], threads: int) -> Outcome:
    """Do it in so many threads, each with its number. Raises what the first one that failed has raised."""
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, number) for number in range(threads)]:
            done.result()
    return Outcome()


def pop3_rows(size: Size) -> list[Row]:
    """RETR of the first messages of the inbox."""

    def retrieving(pipelined: bool) -> Callable[[Peer, int], Work]:
        clients: dict[str, RawPop3] = {}

        def prepare(peer: Peer, turn: int) -> Work:
            if not turn:
                clients[peer.kind] = peer.pop3()
                peer.keep(clients[peer.kind].close)
            client, count = clients[peer.kind], min(size.retrieved, size.messages)

            def run() -> Outcome:
                if pipelined:
                    return Outcome(client.retrieve(1, count))
                return Outcome(sum(client.retrieve(1 + at, 1) for at in range(count)))

            return Work(run, count)

        return prepare

    return [
        Row("pop3-one", (Figure("POP3 RETR, one by one", Unit.PER_S, times=0.8),), retrieving(False)),
        Row("pop3-pipelined", (Figure("POP3 RETR, pipelined", Unit.PER_S, times=0.8),), retrieving(True)),
    ]
