"""What the commands of ACL ask for (RFC 4314 section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MyRights:
    """MYRIGHTS (section 3.5)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class GetAcl:
    """GETACL (section 3.3)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class ListRights:
    """LISTRIGHTS (section 3.4)."""

    mailbox: str
    identifier: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangeAcl:
    """SETACL (section 3.1) or DELETEACL (section 3.2): checked for form only, nobody can do either."""

    mailbox: str
