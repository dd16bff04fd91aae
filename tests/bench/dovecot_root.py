"""Debian's Dovecot as an ordinary process in a folder of its own, filled by MULTIAPPEND.

Settings are Dovecot's defaults but for paths, ports, a static password and the mail format. Started
by root it keeps its own users for logins and gives the mailbox to ``nobody``; started by another
user everything runs as that user.
"""

from __future__ import annotations

import itertools
import os
import pwd
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from raw_imap import RawImap

USER = "user"
PASSWORD = "correct-horse-battery-staple"  # the password of generated mail
BINARY = "/usr/sbin/dovecot"
BATCH = 500

_CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificate}
ssl_key = <{private_key}
auth_mechanisms = plain
mail_location = {format}:{folder}/mail
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
{login_more}}}
namespace inbox {{
  inbox = yes
}}
{more}
"""

_UNPRIVILEGED = """\
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = {uid}
service anvil {{
  chroot =
}}
"""


def version() -> str:
    """What the binary says of itself."""
    found = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True)
    return "Dovecot " + found.stdout.split()[0]


def start(
    folder: Path, port: int, certificate: Path, private_key: Path, mail_format: str
) -> subprocess.Popen[bytes]:
    """Start Dovecot in the foreground as our own child."""
    owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    for name in ("run", "state", "mail", "home"):
        (folder / name).mkdir(parents=True)
    for name in ("mail", "home"):
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    # Its own users have to reach what lies below.
    for above in (folder, folder.parent):
        above.chmod(0o755)
    config = folder / "dovecot.conf"
    more = ""
    if os.geteuid() != 0:
        group = str(owner.pw_gid)
        more = _UNPRIVILEGED.format(user=owner.pw_name, group=group, uid=owner.pw_uid)
    config.write_text(
        _CONFIG.format(
            folder=folder,
            certificate=certificate,
            private_key=private_key,
            password=PASSWORD,
            format=mail_format,
            uid=owner.pw_uid,
            gid=owner.pw_gid,
            port=port,
            login_more="" if os.geteuid() == 0 else "  chroot =\n",
            more=more,
        )
    )
    return subprocess.Popen([BINARY, "-F", "-c", str(config)], stdin=subprocess.DEVNULL)


def fill(client: RawImap, mail: Iterable[tuple[bytes, int]]) -> None:
    """Append messages to the inbox with MULTIAPPEND (RFC 3502) and LITERAL+ (RFC 7888)."""
    waiting = iter(mail)
    while batch := list(itertools.islice(waiting, BATCH)):
        pieces = [b"APPEND INBOX"]
        for data, date in batch:
            stamp = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(date)).encode()
            pieces.append(b' "%s" {%d+}\r\n%s' % (stamp, len(data), data))
        client.command(b"".join(pieces))
