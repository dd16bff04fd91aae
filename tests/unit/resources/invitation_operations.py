"""What the store does with invitations: links that work once."""

from __future__ import annotations

from account_operations import TOUCH, revoke_all
from backup_world import PASSWORD, TINY
from everything import OTHER, Operation, World, files

from mailstore.account import NewAccount, account_paths, destroy_account
from mailstore.invitation_files import invitations, remove_expired
from mailstore.invitations import Place, create_account_for_owner, invite, join, welcome, withdraw
from mailstore.keys import InvitationFacts, Scope, read_header

NOW, LATER = 100, 1_000

SPENT = r"(stat|write|fsync|unlink) root/invitations/\* "
"""The file of an invitation that is used up need not go: its keyslot tells."""


def _place(world: World) -> Place:
    return Place(world.root, world.directory, TINY, clock=lambda: NOW)


def _invite(world: World) -> None:
    world.made = invite(world.keyring(), InvitationFacts("tablet", NOW, LATER, Scope()))


def _invite_owner(world: World) -> None:
    wanted = NewAccount(OTHER, b"nobody knows this")
    _, world.made = create_account_for_owner(world.root, world.directory, wanted, LATER, params=TINY)


def _undo(world: World) -> None:
    """Neither the other account, nor a link, nor what one was exchanged for."""
    other = world.directory.login(OTHER)
    if other is not None:
        destroy_account(world.root, world.directory, other.account_id)
    for path in (world.root / "invitations").iterdir():
        path.unlink()  # also one that could be overwritten and not removed
    revoke_all(world)


def _links(world: World) -> object:
    """Who has which keyslots, and which links could be used: one may lie there that is used up."""
    slots = {
        record.name: read_header(account_paths(world.root, record.account_id).folder).header.slots
        for record in world.directory.accounts()
    }
    taken = {one.id for some in slots.values() for one in some}
    usable = [
        one.label
        for one in invitations(world.root)
        if (one.id not in taken if one.replaces is None else one.replaces in taken)
    ]
    labels = {name: sorted(one.label for one in some) for name, some in slots.items()}
    return labels, usable, [one for one in files(world) if "/invitations" not in one]


INVITATIONS = [
    Operation("invite", _invite, undo=_undo, state=_links, may_go_on=TOUCH),
    Operation("list invitations", lambda world: invitations(world.root), prepare=_invite, undo=_undo),
    Operation(
        "withdraw an invitation",
        lambda world: withdraw(world.root, world.made.id),
        prepare=_invite,
        undo=_undo,
        state=_links,
    ),
    Operation(
        "remove expired invitations",
        lambda world: remove_expired(world.root, LATER + 1),
        prepare=_invite,
        undo=_undo,
        state=_links,
    ),
    Operation(
        "join",
        lambda world: join(_place(world), world.made),
        prepare=_invite,
        undo=_undo,
        state=_links,
        undone=True,
        may_go_on=rf"{TOUCH}|{SPENT}|open root/invitations/\* 2|(open|fsync) root/invitations 0",
    ),
    Operation(
        "create_account_for_owner", _invite_owner, undo=_undo, state=_links, undone=True, may_go_on=TOUCH
    ),
    Operation(
        "welcome",
        lambda world: welcome(_place(world), world.made, PASSWORD),
        prepare=_invite_owner,
        undo=_undo,
        state=_links,
        undone=True,
        may_go_on=rf"{TOUCH}|{SPENT}|open root/invitations/\* 5|(open|fsync) root/invitations 1",
    ),
]
