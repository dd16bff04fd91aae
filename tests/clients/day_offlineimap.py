"""The day of offlineimap3: like mbsync's, two ways between Maildirs and the server, in UTF-8 names."""

from __future__ import annotations

import re

from day import ELSEWHERE, NESTED, PROJECT, Day
from maildir import Maildirs

NEEDS = ("offlineimap",)


def _configure(day: Day) -> None:
    server = day.server
    (day.folder / "mail").mkdir()
    (day.folder / "offlineimaprc").write_text(
        f"""[general]
accounts = a
metadata = {day.folder}/metadata
maxsyncaccounts = 1
ui = basic

[Account a]
localrepository = near
remoterepository = far
utf8foldernames = yes

[Repository near]
type = Maildir
localfolders = {day.folder}/mail
sep = /

[Repository far]
type = IMAP
remotehost = localhost
remoteport = {server.info["imaps"]}
remoteuser = {server.user}
remotepass = {server.password}
ssl = yes
sslcacertfile = {server.info["cafile"]}
subscribedonly = no
maxconnections = 2
"""
    )


def work(day: Day) -> None:
    """New folders both ways, moves, flags, deletions, trash, a restart in between."""
    day.version = "offlineimap " + day.run("offlineimap", "--version").decode().strip()
    day.explained["CREATE NO ALREADYEXISTS"] = "it creates the parent of a nested folder once more"
    _configure(day)
    mail = Maildirs(day.folder / "mail")

    def sync(what: str) -> None:
        log = day.folder / "wire.log"
        said = day.run("offlineimap", "-c", str(day.folder / "offlineimaprc"), "-o", "-d", "imap")
        with log.open("ab") as wire:
            wire.write(said)
        if problems := re.findall(rb"(?m)^.*(?:ERROR|WARNING|Traceback).*$", said):
            day.sees("no complaints", [], problems)
        day.step(what)

    sync("first sync")
    day.sees("ten messages", list(range(1, 11)), list(mail.flags("INBOX")))
    day.without("subscribe and search on the server: offlineimap has neither")
    mail.create(PROJECT)
    mail.create(NESTED)
    for number in (1, 2):
        mail.move("INBOX", number, NESTED)
    mail.mark("INBOX", 3, "F")
    mail.mark("INBOX", 4, "S")
    mail.copy("INBOX", 9, "Archive")
    sync("offline work brought up: two new folders, 1 and 2 moved, 3 flagged, 4 seen, 9 copied")
    day.sees("the moved messages", [1, 2], list(mail.flags(NESTED)))
    for number in (7, 8):
        mail.move("INBOX", number, "Trash")
    sync("7 and 8 deleted, that is, moved into the trash")
    day.sees("in the trash on the server", {7, 8}, set(day.look().mailboxes["Trash"]))
    mail.remove("Trash")
    sync("trash emptied")
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
    # offlineimap creates mailboxes and never subscribes to them (here: subscribedonly = no).
    day.picture.subscribed -= {PROJECT, NESTED}
