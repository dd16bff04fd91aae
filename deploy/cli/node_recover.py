"""sealbox node recover. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import shutil
import time

import click

from backup.recover import Recovering, Terms
from backup.restore import list_store
from backup.restore_accounts import Restored, Sources, Wishes, by_private_key
from backup.stores import ObjectStore
from deploy.cli.root import (
    EPILOG,
    EXIT_BUSY,
    EXIT_STORAGE,
    EXIT_USAGE,
    Cli,
    Refusal,
    command,
    node_section,
)
from deploy.cli.snapshot_store import (
    StoreOptions,
    chosen_store,
    configured,
    private_key,
    progress_bar,
    restore_folder,
    signed_by,
    store_options,
)
from deploy.object_store import open_store
from deploy.texts import counted
from mailstore.directory import Directory, NodeLease, directory_place, node_name
from mailstore.errors import DirectoryNotShared, NodeServes, NoSuchNode
from mailstore.lease import require_lease

LOOK_S = 1.0
"""Seconds between two looks at the lease of the lost node."""


@click.command("recover", epilog=EPILOG)
@click.argument("lost", metavar="LOST")
@click.option(
    "--newest-sound", is_flag=True, help="Where an object is damaged, take the newest state before it."
)
@click.option(
    "--before-move",
    is_flag=True,
    help="Take accounts that came to LOST from another node, whose snapshots --store names, as they came.",
)
@store_options
@command
def recover(cli: Cli, lost: str, newest_sound: bool, before_move: bool, options: StoreOptions) -> None:
    """Take the accounts of node LOST, which is gone, from its snapshots; --private-key is needed.

    Waits until LOST may not serve any more, and marks it as lost. Mail that LOST took after its newest
    snapshots is on its disk alone; no mail on this node is changed. Run again, it goes on; several nodes may
    run it at once and share the accounts.

    Without --store the snapshots are looked for in the store of this node, with LOST in place of its own name
    at the end.
    """
    mine, key = node_name(cli.root), private_key(options)
    if mine is None or directory_place(cli.root) is None:
        raise DirectoryNotShared
    if before_move and options.store is None:
        raise Refusal("say with --store where the node that had them before has its snapshots", EXIT_USAGE)
    if lost == mine:
        raise Refusal("another node recovers it: here 'sealbox restore' brings back accounts")
    if key is None:
        raise Refusal("say with --private-key what opens the snapshots", EXIT_USAGE)
    trust = signed_by(cli.root, options) if options.signed_by is not None else None
    section = node_section(cli)
    wishes = Wishes(newest_sound=newest_sound, signed_by=trust, threads=section.recover_at_once)
    terms = Terms(lost, mine, section.move_closed_max_s, before_move)
    require_lease(cli.root)
    began_s = time.monotonic()
    with cli.directory() as directory, restore_folder(cli.root) as work:
        store = _store(cli, lost, mine, options)

        def _found_in_store() -> Sources:
            return by_private_key(store, list_store(store), key, work, wishes)

        # Before anything is decided: a wrong key or a wrong store marks nobody.
        if not _lease(directory, lost).is_lost:
            _found_in_store()
        _mark(cli, directory, lost, section.lease_s)
        sources = _found_in_store()  # with what the node has stored while its end was waited for
        with progress_bar(cli, 0, "") as progress:
            planning = Recovering(cli.root, directory, sources, work, terms, wishes, progress)
            targets, found = planning.targets(planning.accounts())
        total = sum(one.size_bytes for one in targets)
        with progress_bar(cli, total, "recovering") as progress:
            recovering = Recovering(cli.root, directory, sources, work, terms, wishes, progress)
            found += recovering.restore(targets)
        if all(one.trouble is None for one in found):
            shutil.rmtree(work, ignore_errors=True)
    _answer(cli, (lost, mine), found, time.monotonic() - began_s)


def _store(cli: Cli, lost: str, mine: str, options: StoreOptions) -> ObjectStore:
    """Where the lost node has its snapshots. Raises Refusal."""
    if options.store is not None:
        return chosen_store(cli, options)[0]
    config = configured(cli)
    folder, slash, last = config.backup.store.rstrip("/").rpartition("/")
    if last != mine:
        raise Refusal(f"say with --store where node {lost} has its snapshots", EXIT_USAGE)
    section = config.backup.model_copy(update={"store": f"{folder}{slash}{lost}"})
    return open_store(section, config.snapshots)


def _lease(directory: Directory, lost: str) -> NodeLease:
    """Raises NoSuchNode."""
    found = next((one for one in directory.leases() if one.name == lost), None)
    if found is None:
        raise NoSuchNode
    return found


def _mark(cli: Cli, directory: Directory, lost: str, lease_s: float) -> None:
    """Mark a node as lost when its lease is over. Raises Refusal: it goes on serving.

    ``lease_s`` is waited for where no lease of it is known.
    """
    if _lease(directory, lost).left_s is None:
        directory.begin_lease(lost, lease_s)
    first = _lease(directory, lost)
    if first.left_s is not None and first.left_s > 0:
        cli.remark(f"node {lost} may serve for {first.left_s:.0f} s more: waiting for that")
    while True:
        try:
            return directory.mark_lost(lost)
        except NodeServes:
            now = _lease(directory, lost)
            if now.until_s != first.until_s:
                raise Refusal(
                    f"node {lost} has renewed its lease, so it serves: stop it, and try again", EXIT_BUSY
                ) from None
            time.sleep(min(max(now.left_s or 0.0, 0.0) + 0.01, LOOK_S))


def _answer(cli: Cli, nodes: tuple[str, str], found: list[Restored], took_s: float) -> None:
    lost, mine = nodes
    taken = [one for one in found if one.trouble is None and not one.skipped]
    left = [one for one in found if one.trouble is not None]
    fields = [
        {
            "account": one.account_id,
            "taken_ms": one.taken_ms or None,
            "kept": str(one.kept) if one.kept else None,
            "trouble": one.trouble,
            "damage": one.damage,
            "passed_over": one.passed_over,
            "old_secrets": bool(one.difference.only_then),
            "old_master_key": one.difference.other_master,
        }
        for one in found
        if not one.skipped
    ]
    by_others = len(found) - len(taken) - len(left)
    cli.answer(
        {"node": mine, "lost": lost, "accounts": fields, "by_others": by_others, "took_s": round(took_s, 1)},
        *(line for one in found for line in _lines(one)),
        f"node {mine} has taken {counted(len(taken), 'account')} of node {lost} in {took_s:.0f} s"
        + (f"; {by_others} went to others meanwhile" if by_others else "")
        + (f"; {len(left)} could not be recovered, and are still {lost}'s" if left else ""),
    )
    if any(one.damage or (one.trouble and not one.may_be_tried_again) for one in found):
        raise SystemExit(EXIT_STORAGE)
    if left:
        cli.remark("what was not recovered now can be later: run it again")
        raise SystemExit(EXIT_BUSY)


def _lines(one: Restored) -> list[str]:
    """What an operator has to know of an account."""
    said = []
    if one.trouble:
        said.append(f"NOT recovered: {one.trouble}")
    if one.damage:
        said.append(f"recovered, BUT DAMAGED: {one.damage}: 'sealbox restore --replace' with --at mends it")
    if one.kept:
        said.append(f"had been here before: what it had is in {one.kept}")
    if one.difference.other_master:
        said.append("it is from before a new master key: run 'sealbox account rekey' again")
    elif one.difference.only_then:
        said.append("its passwords are those of the snapshot, which were changed since")
    return [f"{one.account_id}  {text}" for text in said]


__all__ = ["recover"]
