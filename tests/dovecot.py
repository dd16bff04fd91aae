"""Debian's Dovecot as an ordinary process in a folder of its own, on 127.0.0.1 alone.

Settings are Dovecot's defaults but for paths, ports, users and the mail format. Started
by root it keeps its own users for logins and gives the mailbox to ``nobody``; started by another
user everything runs as that user.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "correct-horse-battery-staple"  # the password of generated mail
BINARY = "/usr/sbin/dovecot"

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
mail_location = {format}:{mail}
{users}
service imap-login {{
  inet_listener imap {{
    port = {plain_port}
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
{login_more}}}
namespace inbox {{
  inbox = yes
  separator = /
}}
{more}
"""
_ANY_USER = """\
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home/%u allow_all_users=yes
}}
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


@dataclass(frozen=True, slots=True)
class Setup:
    """Where Dovecot listens and what it serves. A ``plain_port`` of 0 means TLS only.

    ``users`` holds the passdb and userdb blocks; without them any name logs in with ``PASSWORD``.
    ``mail`` is where mail lies, as ``mail_location`` writes it; ``more`` are further settings.
    """

    port: int
    certificate: Path
    private_key: Path
    mail_format: str
    plain_port: int = 0
    users: str = ""
    mail: str = ""
    more: str = ""


def mail_owner() -> pwd.struct_passwd:
    """The system user that mail belongs to."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def start(folder: Path, setup: Setup) -> subprocess.Popen[bytes]:
    """Start Dovecot in the foreground as our own child."""
    owner = mail_owner()
    for name in ("run", "state", "mail", "home"):
        (folder / name).mkdir(parents=True)
    for name in ("mail", "home"):
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    # Its own users have to reach what lies below.
    for above in (folder, folder.parent):
        above.chmod(stat.S_IMODE(above.stat().st_mode) | 0o055)
    config = folder / "dovecot.conf"
    more = setup.more
    if os.geteuid() != 0:
        group = str(owner.pw_gid)
        more += _UNPRIVILEGED.format(user=owner.pw_name, group=group, uid=owner.pw_uid)
    ids = {"uid": owner.pw_uid, "gid": owner.pw_gid, "folder": folder}
    config.write_text(
        _CONFIG.format(
            folder=folder,
            certificate=setup.certificate,
            private_key=setup.private_key,
            users=setup.users or _ANY_USER.format(password=PASSWORD, **ids),
            format=setup.mail_format,
            mail=setup.mail or folder / "mail",
            port=setup.port,
            plain_port=setup.plain_port,
            login_more="" if os.geteuid() == 0 else "  chroot =\n",
            more=more,
        )
    )
    # Its processes run as several users, which have to read what it writes.
    return subprocess.Popen([BINARY, "-F", "-c", str(config)], stdin=subprocess.DEVNULL, umask=0o022)
