"""Both integrity checks over every account of a data root, inside the machine.

python -m tests.powercut.look DATA_ROOT PASSWORD
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mailstore.account import account_paths, open_directory
from mailstore.account_database import account_database, mail_key
from mailstore.opening import open_as_owner
from tests.soak.site import CHEAP


def main() -> int:
    """See the module's docstring; 1 when a check has found something."""
    root, password = Path(sys.argv[1]), sys.argv[2].encode()
    directory = open_directory(root)
    found = 0
    for record in directory.accounts():
        opened = open_as_owner(root, directory, record.name, password, now=time.time(), params=CHEAP)
        key = mail_key(opened.master)
        with account_database(account_paths(root, record.account_id), key) as database:
            pages = database.pragma("PRAGMA cipher_integrity_check")
            rows = database.pragma("PRAGMA integrity_check")
        if pages or rows != [("ok",)]:
            print(f"account {record.account_id}: {pages[:5]} {rows[:5]}")
            found = 1
        opened.wipe()
    directory.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
