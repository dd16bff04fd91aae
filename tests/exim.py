"""Exim in a folder of its own, on 127.0.0.1 alone, with the recipe of deploy/exim.

It is used where it is installed and can ask Dovecot (Debian: exim4-daemon-heavy); it excludes Postfix there.
SEALBOX_TEST_EXIM names another binary, or a script that starts one. Only root can start it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "deploy" / "exim" / "exim.conf"
BINARY = os.environ.get("SEALBOX_TEST_EXIM", "/usr/sbin/exim4")
GROUP = "Debian-exim"

_OURS = """\
exim_path = {binary}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%s
local_interfaces = 127.0.0.1
deliver_drop_privilege = true
"""


def missing() -> str | None:
    """Why it cannot be started here; None if it can."""
    if not Path(BINARY).exists():
        return "Exim is not installed (Debian: exim4-daemon-heavy, which takes the place of Postfix)"
    said = subprocess.run([BINARY, "-bV"], capture_output=True, text=True, check=False).stdout
    if not re.search(r"^Authenticators:.* dovecot", said, re.M):
        return "this Exim cannot ask Dovecot (Debian: exim4-daemon-heavy)"
    return None if os.geteuid() == 0 else "only root can start Exim"


def start(folder: Path, settings: dict[str, object]) -> subprocess.Popen[bytes]:
    """Start Exim in the foreground as our own child. ``settings`` are values of the recipe's first lines."""
    text = RECIPE.read_text()
    for name, value in settings.items():
        text, changes = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.M)
        assert changes == 1, name
    for name in ("spool", "log"):
        (folder / name).mkdir(parents=True)
        shutil.chown(folder / name, GROUP, GROUP)
    folder.chmod(0o755)
    config = folder / "exim.conf"
    config.write_text(_OURS.format(binary=BINARY, folder=folder) + text)
    return subprocess.Popen(
        [BINARY, "-C", str(config), "-bdf", "-q5s"], stdin=subprocess.DEVNULL, umask=0o022, cwd="/"
    )
