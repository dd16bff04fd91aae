"""The day of mbsync (isync): all work is done on Maildirs, the program carries it both ways."""

from __future__ import annotations

from day import ELSEWHERE, NESTED, PROJECT, Day
from maildir import Maildirs

NEEDS = ("mbsync",)

NESTED_HERE = "Projects/Gr&APYA3w-e"
"""mbsync 1.4 sends names as they lie on the disk, so non-ASCII ones have to lie there in modified UTF-7."""


def _configure(day: Day) -> None:
    server = day.server
    (day.folder / "mail").mkdir()
    (day.folder / "mbsyncrc").write_text(
        f"""IMAPAccount a
Host localhost
Port {server.info["imaps"]}
User {server.user}
Pass {server.password}
SSLType IMAPS
CertificateFile {server.info["cafile"]}

IMAPStore far
Account a
Trash Trash

IMAPStore plain
Account a

MaildirStore near
Path {day.folder}/mail/
Inbox {day.folder}/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns * !Trash
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes

Channel trash
Far :plain:Trash
Near :near:Trash
Create Both
Expunge Both
SyncState *
"""
    )


def work(day: Day) -> None:
    """New folders both ways, moves, flags, deletions, trash, a restart in between."""
    day.version = day.run("mbsync", "--version").decode().strip()
    _configure(day)
    mail = Maildirs(day.folder / "mail")

    def sync(what: str, channel: str = "c") -> None:
        said = day.run("mbsync", "-D", "-c", str(day.folder / "mbsyncrc"), channel)
        with (day.folder / "wire.log").open("ab") as wire:
            wire.write(said)
        day.step(what)

    sync("first sync")
    day.sees("ten messages", list(range(1, 11)), list(mail.flags("INBOX")))
    day.without("subscribe and search on the server: mbsync has neither")
    mail.create(PROJECT)
    mail.create(NESTED_HERE)
    for number in (1, 2):
        mail.move("INBOX", number, NESTED_HERE)
    mail.mark("INBOX", 3, "F")
    mail.mark("INBOX", 4, "S")
    mail.copy("INBOX", 9, "Archive")
    sync("offline work brought up: two new folders, 1 and 2 moved, 3 flagged, 4 seen, 9 copied")
    day.sees("the moved messages", [1, 2], list(mail.flags(NESTED_HERE)))
    for number in (7, 8):
        mail.mark("INBOX", number, "T")
    sync("7 and 8 deleted")
    # 1 and 2 went through the trash as well: for mbsync a move is a new message here and a deletion there.
    day.sees("in the trash on the server", {1, 2, 7, 8}, set(day.look().mailboxes["Trash"]))
    # They have kept the \Deleted that mbsync had given them, so that a sync with Expunge removes them.
    sync("trash emptied", "trash")
    day.elsewhere()
    sync("the other device's changes")
    day.sees("the new folder", True, ELSEWHERE in mail.names())
    day.sees("5 as answered, 10 gone", ("R", False), mail.shows(5, 10))
    day.restart()
    sync("reconnected")
    day.sees("the mail of meanwhile", {11, 12}, {11, 12} & set(mail.flags("INBOX")))
    mail.mark("INBOX", 11, "F")
    mail.mark("INBOX", 12, "S")
    sync("11 flagged and 12 seen offline, brought up")
    before = mail.flags("INBOX")
    sync("once more")
    day.sees("nothing left to do", before, mail.flags("INBOX"))
    # mbsync creates mailboxes and never subscribes to them.
    day.picture.subscribed -= {PROJECT, NESTED}
