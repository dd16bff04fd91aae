"""What the store and the snapshot job do with the disk: a table of public operations, to be tried one by one.

Each is prepared, run and undone, so that it can be run any number of times in one world.
"""

from __future__ import annotations

from account_operations import ACCOUNTS
from invitation_operations import INVITATIONS
from mail_operations import MAIL
from snapshot_operations import BACKUP

OPERATIONS = [*ACCOUNTS, *INVITATIONS, *MAIL, *BACKUP]
