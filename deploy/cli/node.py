"""sealbox node. Exit codes: see deploy/cli/sentences.py."""

from dataclasses import replace

import click

from deploy.cli.node_recover import recover
from deploy.cli.root import EPILOG, Cli, Refusal, command
from deploy.texts import counted
from mailstore.account import account_paths
from mailstore.directory import Doors, Node, NodeLease, directory_place, doors_value, node_name


@click.group(epilog=EPILOG)
def node() -> None:
    """Add, list and remove the servers that share this directory; give a server the accounts it has.

    No mail is touched by any of these.
    """


@node.command("add", epilog=EPILOG)
@click.argument("name")
@click.argument("address", metavar="HOST:PORT")
@click.option("--imap", metavar="IP:PORT", help="Where it has [listen] imap_proxied.")
@click.option("--pop3", metavar="IP:PORT", help="Where it has [listen] pop3_proxied.")
@click.option("--submission", metavar="IP:PORT", help="Where its mail transfer agent takes mail of users.")
@click.option("--again", is_flag=True, help="Let a node serve that was lost.")
@command
def add_node(
    cli: Cli, name: str, address: str, imap: str | None, pop3: str | None, submission: str | None, again: bool
) -> None:
    """Let all nodes bring mail for the accounts of node NAME to HOST:PORT, where it has [listen] node_lmtp.

    The options say where a proxy in front of the nodes (nginx) is sent with logins to these accounts; "none"
    takes one away. A node that is there already gets this address, and keeps what no option names. No mail is
    touched.
    """
    said = {"imap": imap, "pop3": pop3, "submission": submission}
    named = {kind: None if place == "none" else place for kind, place in said.items() if place is not None}
    with cli.directory() as directory:
        before = next((one.doors for one in directory.nodes() if one.name == name), Doors())
        node = Node(name, address, replace(before, **named))
        directory.put_node(node, again=again)
        is_lost = any(one.name == name and one.is_lost for one in directory.leases())
    lines = [f"node {name} is reached at {address}", *_door_lines(node)]
    cli.answer({"added": name, "address": address} | doors_value(node.doors), *lines)
    if is_lost:
        cli.remark(f"node {name} is marked as lost, and stays so: with --again it may serve")
    if directory_place(cli.root) is None and name != node_name(cli.root):
        cli.remark(
            "this directory is a file of this server, which no other can share: put it into PostgreSQL first"
            " ('sealbox directory export', [directory] url)"
        )


def _door_lines(node: Node) -> list[str]:
    return [f"   {name} of a proxy: {place}" for name, place in doors_value(node.doors).items()]


def _lease_fields(lease: NodeLease | None) -> dict[str, object]:
    return {} if lease is None else {"lease_left_s": lease.left_s, "lost": lease.is_lost}


def _lease_text(lease: NodeLease | None) -> str:
    if lease is None:
        return ""
    if lease.is_lost:
        return "  LOST: its accounts are taken by others"
    if lease.left_s is None:
        return "  may serve: its lease is not known"
    if lease.left_s <= 0:
        return f"  does not serve: its lease is over for {round(-lease.left_s)} s"
    return f"  may serve for {round(lease.left_s)} s more"


@node.command("list", epilog=EPILOG)
@command
def list_nodes(cli: Cli) -> None:
    """List the nodes, with the number of their accounts and until when they may serve; no mail is touched."""
    with cli.directory() as directory:
        nodes = directory.nodes()
        leases = {one.name: one for one in directory.leases()}
        owners = [record.node for record in directory.accounts()]
    mine = node_name(cli.root)
    fields = [
        {"name": one.name, "address": one.address, "accounts": owners.count(one.name)}
        | doors_value(one.doors)
        | _lease_fields(leases.get(one.name))
        for one in nodes
    ]
    lines = [
        line
        for one in nodes
        for line in (
            f"{one.name}  {one.address}  {counted(owners.count(one.name), 'account')}"
            f"{_lease_text(leases.get(one.name))}{'  (this server)' if one.name == mine else ''}",
            *_door_lines(one),
        )
    ]
    homeless = owners.count(None)
    rest = (
        [f"-  {counted(homeless, 'account')} of no node: see 'sealbox node claim'"]
        if nodes and homeless
        else []
    )
    cli.answer({"nodes": fields, "this": mine, "without": homeless}, *lines, *rest)
    if not nodes:
        cli.remark("there are no nodes: 'sealbox node add NAME HOST:PORT' adds one")


@node.command("remove", epilog=EPILOG)
@click.argument("name")
@command
def remove_node(cli: Cli, name: str) -> None:
    """Remove a node that has no accounts any more, so no mail is lost."""
    with cli.directory() as directory:
        directory.remove_node(name)
    cli.answer({"removed": name}, f"node {name} removed")


@node.command("claim", epilog=EPILOG)
@command
def claim(cli: Cli) -> None:
    """Give this server ([node] name) the accounts that no node has and whose folders are here.

    For a server that gets a name: from then on other nodes send their mail here. No mail is touched, and
    sessions go on.
    """
    mine = node_name(cli.root)
    if mine is None:
        raise Refusal("this server has no name: set [node] name in its configuration")
    with cli.directory() as directory:
        free = [record for record in directory.accounts() if record.node is None]
        found = [one for one in free if account_paths(cli.root, one.account_id).keys.exists()]
        for record in found:
            directory.set_node(record.account_id, mine, record.node_generation + 1)
    left = len(free) - len(found)
    cli.answer(
        {"node": mine, "claimed": len(found), "left": left},
        f"node {mine} has {counted(len(found), 'account')} more",
        *([f"{counted(left, 'account')} of no node: their folders are elsewhere"] if left else []),
    )


node.add_command(recover)
