"""The day of mutt with QRESYNC, and of neomutt: keys on a pseudo-terminal, their wire logs as witnesses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from day import ELSEWHERE, NEEDLE, NESTED, PROJECT, Day
from terminal import Terminal

NEEDS_MUTT = ("mutt",)
NEEDS_NEOMUTT = ("neomutt",)

CLEAR = "\x15"
"""Ctrl-U: empties the line that is being edited."""
BROWSE = f"c?c{CLEAR}=\r"
"""The browser of folders at the root of the account; neomutt would begin with its own list of mailboxes."""
REDRAW = "\x0c"
UNTAG = "\x14"
DONE = r"< [a-z]\d+ OK"
RESUMED = r"UID FETCH \S+ \(FLAGS\) \(CHANGEDSINCE \d+ VANISHED\)"


def _configure(day: Day) -> Path:
    server, home = day.server, day.folder
    (home / "headers").mkdir()
    (home / "bodies").mkdir()
    file = home / "rc"
    file.write_text(
        f"""set folder="imaps://{server.user}@localhost:{server.info["imaps"]}/"
set imap_user="{server.user}" imap_pass="{server.password}"
set spoolfile="+INBOX" trash="+Trash" ssl_force_tls=yes certificate_file="{server.info["cafile"]}"
set imap_qresync=yes imap_condstore=yes imap_idle=yes
{"set imap_deflate=yes" if day.client == "mutt" else ""}
set header_cache="{home}/headers/" message_cachedir="{home}/bodies/"
set delete=yes move=no quit=yes mark_old=no beep=no wait_key=no auto_tag=no
set confirmappend=no confirmcreate=no sleep_time=0 timeout=1 mail_check=2 imap_keepalive=60
bind browser z descend-directory
"""
    )
    return file


@contextmanager
def _started(day: Day, program: str, config: Path) -> Iterator[Terminal]:
    """The program on its terminal; the log names are each program's own habit."""
    if program == "mutt":
        log = day.folder / ".muttdebug0"
        if log.exists():
            log.rename(day.folder / "muttdebug-earlier")
        arguments = ["-d", "2"]
    else:
        prefix = day.folder / f"wire-{len(list(day.folder.glob('wire-*')))}-"
        log = Path(f"{prefix}0")
        arguments = ["-d", "5", "-l", str(prefix)]
    terminal = Terminal(day, [program, "-n", "-F", str(config), *arguments], log)
    try:
        yield terminal
    finally:
        terminal.close()


def _numbers(*numbers: int) -> str:
    """A pattern for messages by their subjects."""
    return f'~s "message ({"|".join(map(str, numbers))})$"\r'


def _morning(day: Day, terminal: Terminal) -> None:
    terminal.expect("asked for QRESYNC", r"ENABLE QRESYNC.*?" + DONE)
    terminal.expect("has read the headers of ten messages", r"FETCH 1:10 .*?" + DONE)
    terminal.shows("shows the tenth message", "day message 10")
    terminal.press(BROWSE)
    terminal.expect("lists the folders", r"LIST.*?" + DONE)
    for name in (PROJECT, NESTED):
        terminal.press(f"C{CLEAR}{name}\r")
        terminal.expect("new folder", r"CREATE.*?" + DONE + ".*?LIST.*?" + DONE)
    terminal.press(f"/{PROJECT}\rs")
    terminal.expect("subscribed to it", r"> [a-z]\d+ SUBSCRIBE.*?" + DONE)
    terminal.press("z")
    terminal.expect("looks into it", r"LIST.*?Projects/%.*?" + DONE)
    terminal.press(f"/{NESTED.rpartition('/')[2]}\rs")
    terminal.expect("subscribed to the folder inside", r"> [a-z]\d+ SUBSCRIBE.*?" + DONE)
    terminal.press("q")
    terminal.press(f"T{_numbers(1, 2)};s{CLEAR}={NESTED}\r")
    terminal.expect("1 and 2 copied into the new folder", r"UID COPY.*?" + DONE)
    terminal.press(f"T{_numbers(3)};F{UNTAG}~A\r")
    terminal.press(f"T{_numbers(9)};C{CLEAR}=Archive\r")
    terminal.expect("9 copied", r"UID COPY.*?" + DONE)
    terminal.press(f"{UNTAG}~A\r$")
    terminal.expect("1 and 2 removed here, 3 flagged", r"EXPUNGE.*?" + DONE)


def _noon(day: Day, terminal: Terminal) -> None:
    terminal.press(f"/{_numbers(4)}\r")
    terminal.expect("4 opened", r"UID FETCH \d+ BODY.*?" + DONE)
    terminal.press("i")
    terminal.press(f"l=b {NEEDLE}\r")
    terminal.expect("search on the server", r"UID SEARCH.*?" + DONE)
    terminal.press(REDRAW)
    terminal.shows("shows the only hit", "Msgs:1/")
    terminal.press("l~A\r")
    terminal.press(f"D{_numbers(7, 8)}$")
    terminal.expect("7 and 8 copied to the trash", r'UID COPY \S+ "?Trash.*?' + DONE)
    terminal.expect("and removed here", r"EXPUNGE.*?" + DONE)
    day.sees("in the trash on the server", {7, 8}, set(day.look().mailboxes["Trash"]))
    terminal.press(f"c{CLEAR}=Trash\r")
    terminal.expect("the trash opened", r'SELECT "?Trash.*?' + DONE)
    terminal.press("D~A\r$")
    terminal.expect("trash emptied", r"EXPUNGE.*?" + DONE)
    terminal.press(f"c{CLEAR}=INBOX\r")
    terminal.expect("back, with what is known", RESUMED + ".*?" + DONE)


def _afternoon(day: Day, terminal: Terminal) -> None:
    terminal.expect(
        "resumes by QRESYNC and is told what is gone", RESUMED + r".*?VANISHED \(EARLIER\).*?" + DONE
    )
    terminal.press(REDRAW)
    terminal.shows("shows five messages", "Msgs:5 ")
    terminal.press(BROWSE)
    terminal.expect("lists the folders", r'LIST.*?"?' + ELSEWHERE + r".*?" + DONE)
    terminal.press("q")
    terminal.expect("idles again", r"> [a-z]\d+ IDLE.*?\+ idling")
    day.restart()
    # Both look for the server by themselves, too; neomutt gives the mailbox up where that comes too early.
    terminal.insist("reconnected, again by QRESYNC", f"c{CLEAR}=INBOX\r", RESUMED + ".*?" + DONE)
    terminal.expect("has read the headers of two more", r"FETCH 6:7 .*?" + DONE)


def _evening(terminal: Terminal) -> None:
    terminal.press(REDRAW)
    terminal.shows("shows the mail of meanwhile", "day message 12")
    terminal.press(f"T{_numbers(11)};F{UNTAG}~A\r/{_numbers(12)}\r")
    terminal.expect("12 opened", r"UID FETCH \d+ BODY.*?" + DONE)
    terminal.press("i$")
    terminal.expect("11 flagged, 12 seen", r"UID STORE.*?" + DONE)


def _work(day: Day, program: str) -> None:
    day.explained["IDLE BYE"] = "the server was stopped under a session that was idling"
    day.version = day.run(program, "-v").splitlines()[0].decode()
    config = _configure(day)
    with _started(day, program, config) as terminal:
        _morning(day, terminal)
        _noon(day, terminal)
        terminal.end("q")
    day.elsewhere()
    with _started(day, program, config) as terminal:
        _afternoon(day, terminal)
        if program == "mutt":
            _evening(terminal)
        terminal.end("q")
    if program == "neomutt":
        # neomutt 20220429 reads the two headers (its log says 7 messages) and goes on showing five.
        with _started(day, program, config) as terminal:
            terminal.expect("started once more", r'SELECT "?INBOX.*?' + DONE)
            _evening(terminal)
            terminal.end("q")


def mutt(day: Day) -> None:
    """New folders, moves, flags, search, trash, a resumption by QRESYNC, a restart under its feet."""
    _work(day, "mutt")


def neomutt(day: Day) -> None:
    """As ``mutt``."""
    _work(day, "neomutt")
