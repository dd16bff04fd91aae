"""How large a comparison is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Messages in the inbox, turns of each row that count, and what the rows do in one turn."""

    messages: int
    pairs: int
    large: int = 20
    """Messages of 1 to 5 MB, in a mailbox of their own."""

    few: int = 20
    """Commands of one turn, where a single one would be too short to measure."""

    block: int = 200
    """Messages of one COPY, MOVE and EXPUNGE."""

    stored: int = 2000
    """Messages of the long STORE."""

    deliveries: int = 50
    """Messages of one turn over one LMTP connection; half as many over each of several."""

    told: int = 10
    """Messages of one turn whose news sessions in IDLE wait for."""

    retrieved: int = 200
    """Messages of one turn of POP3."""

    sessions: int = 25
    """Sessions of one user in IDLE."""

    clients: int = 50
    """Of the mixed load."""

    rounds: int = 4
    """Times that each of these clients looks at its mail in one turn."""

    load_users: int = 10
    load_messages: int = 300
    """Accounts of the mixed load, and messages in each."""

    idle_connections: int = 1000
    first_logins: int = 16
    quiet_s: float = 120.0
    """Longest wait until the servers have nothing of their own to do, before a row."""


def quick() -> Size:
    """Fewer of everything, the same rows."""
    return Size(
        messages=1000,
        pairs=2,
        large=4,
        few=10,
        deliveries=20,
        told=2,
        retrieved=100,
        rounds=2,
        load_messages=100,
        idle_connections=100,
    )


def smallest(messages: int) -> Size:
    """As little as shows that every row runs."""
    return Size(
        messages=messages,
        pairs=1,
        large=1,
        few=2,
        block=10,
        stored=20,
        deliveries=3,
        told=1,
        retrieved=5,
        sessions=3,
        clients=4,
        rounds=1,
        load_users=2,
        load_messages=12,
        idle_connections=8,
        first_logins=2,
        quiet_s=0.0,
    )
