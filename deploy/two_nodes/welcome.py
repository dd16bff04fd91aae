"""What is printed once everything runs: for people, and one line of JSON for scripts."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import click

from deploy.two_nodes.stage import ACCOUNTS, Stage

_WIDTH = 18


def json_line(stage: Stage) -> str:
    """Everything that a script needs to use the two nodes."""
    nodes = {
        name: {
            "pid": node.program.pid if node.program else None,
            "config": str(node.config),
            "data": str(node.data),
            **node.ports,
        }
        for name, node in stage.nodes.items()
    }
    accounts = {
        name: {"node": ACCOUNTS[name], "password": password} for name, password in stage.passwords.items()
    }
    return json.dumps(
        {
            "pid": os.getpid(),
            "folder": str(stage.folder),
            "proxy": stage.proxy,
            "nodes": nodes,
            "accounts": accounts,
            "cafile": str(stage.certificate),
            "postgresql": stage.postgresql.url(),
            "s3": stage.bucket.endpoint,
            "backup_private_key": str(stage.backup_private_key),
        }
    )


def _row(*cells: str) -> str:
    return "  " + "".join(cell.ljust(_WIDTH) for cell in cells).rstrip()


def welcome(stage: Stage) -> str:
    """What there is, and what to try."""
    nodes = [
        _row(f"node {name}", *(f"127.0.0.1:{node.ports[one]}" for one in ("imaps", "pop3s", "lmtp")))
        for name, node in stage.nodes.items()
    ]
    people = [_row(name, f"node {ACCOUNTS[name]}", password) for name, password in stage.passwords.items()]
    sealbox = shlex.quote(str(Path(sys.executable).parent / "sealbox"))
    logins = [f"{name[:3].upper()}={name}:{password}" for name, password in stage.passwords.items()]
    lines = (
        "",
        _bold("Two nodes of Sealbox are serving on this machine."),
        "nginx is in front, their directory is in PostgreSQL, and their snapshots go to a bucket.",
        "Ctrl-C ends all of it, and nothing is left.",
        "",
        _row("", "IMAP, SSL/TLS", "POP3, SSL/TLS", "LMTP"),
        _row("nginx, for all", *(f"127.0.0.1:{stage.proxy[one]}" for one in ("imaps", "pop3s"))),
        *nodes,
        "",
        _row("account", "is on", "password"),
        *people,
        "",
        "Some mail is there already. Type this into another terminal first, then what you like of the rest:",
        "",
        f"  S={sealbox} T={stage.folder}",
        f"  {' '.join(logins)}",
        *_to_try(stage),
        "",
        f"What they say is in {stage.folder}/*.log.",
    )
    return "\n".join(lines)


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def _to_try(stage: Stage) -> list[str]:
    a, proxy = stage.nodes["a"], f"imaps://localhost:{stage.proxy['imaps']}"
    assert a.program is not None
    at = {service: f"127.0.0.1:{port}" for service, port in a.ports.items()}
    doors = f"--imap {at['imap_proxied']} --pop3 {at['pop3_proxied']}"
    curl = "curl --silent --cacert $T/certificate.pem --user"
    steps = {
        "Read mail, here with curl, or with a mail program (localhost; the certificate is self-signed)": (
            f"{curl} $ADA '{proxy}/INBOX;MAILINDEX=1'",
        ),
        "Bring mail for bob to node a: it hands it to node b, by LMTP over mutual TLS": (
            f"python3 -c \"import smtplib; smtplib.LMTP('127.0.0.1', {a.ports['lmtp']}).sendmail(",
            "    'me@example.net', '${BOB%:*}', 'Subject: hello\\r\\n\\r\\nby way of node a')\"",
            f"{curl} $BOB '{proxy}/INBOX;MAILINDEX=*'",
        ),
        "Ask who is where, and what is in the bucket": (
            "$S account list --config $T/a.toml",
            "$S node list --config $T/b.toml",
            "$S backup status --config $T/a.toml",
        ),
        "Move bob's account to node a, and ask nginx for his mail again": (
            "$S account move ${BOB%:*} a --config $T/b.toml",
            f"{curl} $BOB '{proxy}/INBOX;MAILINDEX=*'",
        ),
        "Lose node a, some seconds later: b takes its accounts from the bucket, when a's lease is over": (
            f"kill -9 {a.program.pid}",
            "$S node recover a --private-key $T/backup-private.key --signed-by anybody --config $T/b.toml",
            f"{curl} $ADA '{proxy}/INBOX;MAILINDEX=1'",
        ),
        "Start a again, and let it serve": (
            f"kill -USR1 {os.getpid()}",
            f"$S node add a {at['node_lmtp']} {doors} --config $T/b.toml",
        ),
    }
    return [
        line
        for number, (what, commands) in enumerate(steps.items(), 1)
        for line in ("", _bold(f"{number}. {what}"), *(f"  {one}" for one in commands))
    ]
