"""The day of Thunderbird under Xvfb: its own folder, copy, search and offline interfaces, by Marionette.

What runs in it is what its menus and its folder pane call. The user's part that remains is the exception for
the quick start's certificate and the saved password.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from day import ELSEWHERE, NEEDLE, NESTED, PROJECT, Day
from marionette import Marionette

from tests.ports import free_port

NEEDS = ("thunderbird", "xvfb-run", "xauth")

START_S = 60.0
SCRIPT_S = 30.0
END_S = 30.0
_TOOLS = (Path(__file__).resolve().parent / "thunderbird_day.js").read_text("utf-8")

SETTLE_IN = """
const certificate = Cc["@mozilla.org/security/x509certdb;1"]
  .getService(Ci.nsIX509CertDB).constructX509FromBase64(given[0]);
Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService)
  .rememberValidityOverride("localhost", given[1], {}, certificate, false);
const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
login.init("imap://localhost", null, "imap://localhost", given[2], given[3], "", "");
await Services.logins.addLoginAsync(login);
return Services.appinfo.name + " " + Services.appinfo.version;
"""

_NEW_FOLDERS = """
root.createSubfolder(given[0], null);
await until(() => root.containsChildNamed(given[0]));
const inner = given[1].split("/")[1];
folder(given[0]).createSubfolder(inner, null);
await until(() => folder(given[0]).containsChildNamed(inner));
"""

_SUBSCRIBE = """
await listening(listener => MailServices.imap.unsubscribeFolder(root, given[0], listener));
await listening(listener => MailServices.imap.subscribeFolder(root, given[0], listener));
"""

_COPY = """
const [from, to, isMove, ...numbers] = given;
await copying(listener => MailServices.copy.copyMessages(
  folder(from), headers(from, ...numbers), folder(to), isMove, listener, null, false));
await opened(to, ...numbers);
"""

_SEARCH = """
const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder("INBOX"));
const term = session.createTerm();
const value = term.value;
value.attrib = Ci.nsMsgSearchAttrib.Body;
value.str = given[0];
term.value = value;
term.attrib = Ci.nsMsgSearchAttrib.Body;
term.op = Ci.nsMsgSearchOp.Contains;
session.appendTerm(term);
const hits = [];
await new Promise(resolve => {
  session.registerListener({
    onSearchHit(header) { hits.push(numberOf(header)); },
    onSearchDone() { resolve(); },
    onNewSearch() {},
  }, Ci.nsIMsgSearchSession.allNotifications);
  session.search(null);
});
return hits;
"""

_GO_OFFLINE = """
Cc["@mozilla.org/messenger/offline-manager;1"].getService(Ci.nsIMsgOfflineManager)
  .synchronizeForOffline(false, true, false, true, Services.wm.getMostRecentWindow("mail:3pane").msgWindow);
await until(() => Services.io.offline);
return headers("INBOX").every(header => folder("INBOX").hasMsgOffline(header.messageKey));
"""

_GO_ONLINE = """
Cc["@mozilla.org/messenger/offline-manager;1"].getService(Ci.nsIMsgOfflineManager)
  .goOnline(false, true, Services.wm.getMostRecentWindow("mail:3pane").msgWindow);
await until(() => !Services.io.offline);
"""


def preferences_of(day: Day) -> dict[str, Any]:
    """A profile with one account."""
    server = day.server
    return {
        "mail.accountmanager.accounts": "account1",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.account.account1.server": "server1",
        "mail.account.account1.identities": "id1",
        "mail.identity.id1.useremail": server.user,
        "mail.identity.id1.fullName": "Demo",
        "mail.identity.id1.valid": True,
        "mail.server.server1.type": "imap",
        "mail.server.server1.hostname": "localhost",
        "mail.server.server1.port": server.info["imaps"],
        "mail.server.server1.socketType": 3,
        "mail.server.server1.authMethod": 3,
        "mail.server.server1.userName": server.user,
        "mail.server.server1.name": "Demo",
        "mail.server.server1.login_at_startup": False,
        "mail.server.server1.offline_download": True,
    }


class Thunderbird:
    """A running Thunderbird with a session of Marionette, without what it does for newcomers."""

    def __init__(self, day: Day, preferences: dict[str, Any]) -> None:
        profile = day.folder / "profile"
        profile.mkdir()
        port = free_port()
        everything = {
            "marionette.port": port,
            "app.update.enabled": False,
            "mail.provider.suppress_dialog_on_startup": True,
            **preferences,
        }
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in everything.items()]
        (profile / "user.js").write_text("\n".join(lines) + "\n")
        program = ["thunderbird", "--marionette", "--remote-allow-system-access", "--no-remote"]
        with (day.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                ["xvfb-run", "-a", *program, "--profile", str(profile)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "HOME": str(day.folder),
                    "MOZ_LOG": "IMAP:4,timestamp,sync",
                    "MOZ_LOG_FILE": str(day.folder / "wire"),
                },
                start_new_session=True,
            )
        try:
            self._session = day.until("is up", lambda: self._connected(port), START_S)
        except BaseException:
            self.kill()
            raise

    @staticmethod
    def _connected(port: int) -> Marionette | None:
        try:
            return Marionette(port, SCRIPT_S)
        except OSError:
            return None

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script with the day's tools in front of it."""
        return self.run_alone(_TOOLS + script, *arguments)

    def run_alone(self, script: str, *arguments: Any) -> Any:
        """Run a script without tools, which want an account."""
        return self._session.run(script, *arguments)

    def quit(self) -> int:
        """Leave as by the menu; the exit code."""
        self._session.command("Marionette:Quit", {"flags": ["eAttemptQuit"]})
        self._session.close()
        return self.process.wait(END_S)

    def kill(self) -> None:
        """End it, with its X server, if it is still there."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(END_S)


@contextmanager
def _started(day: Day) -> Iterator[Thunderbird]:
    thunderbird = Thunderbird(day, preferences_of(day))
    try:
        yield thunderbird
    finally:
        thunderbird.kill()


def _morning(day: Day, bird: Thunderbird) -> None:
    server = day.server
    pem = Path(server.info["cafile"]).read_text("ascii")
    certificate = base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()
    day.explained["IDLE BYE"] = "the server was stopped under sessions that were idling"
    day.version = bird.run(SETTLE_IN, certificate, server.info["imaps"], server.user, server.password)
    bird.run('await opened("INBOX", ...given)', *range(1, 11))
    day.step("sees ten messages")
    bird.run(_NEW_FOLDERS, PROJECT, NESTED)
    day.step("two new folders, one inside the other")
    bird.run(_SUBSCRIBE, PROJECT)
    day.step("unsubscribed and subscribed")
    bird.run(_COPY, "INBOX", NESTED, True, 1, 2)
    day.step("1 and 2 moved, sees them in the new folder")
    bird.run(_COPY, "INBOX", "Archive", False, 9)
    day.step("9 copied, sees it in the archive")
    bird.run('folder("INBOX").markMessagesFlagged(headers("INBOX", 3), true)')
    bird.run('folder("INBOX").markMessagesRead(headers("INBOX", 4), true)')
    bird.run('folder("INBOX").addKeywordsToMessages(headers("INBOX", 9), "$label1")')
    day.picture.mailboxes["INBOX"][9] = frozenset({"$label1"})
    day.step("3 flagged, 4 seen, 9 tagged")


def _noon(day: Day, bird: Thunderbird) -> None:
    day.sees("the only hit of a search on the server", [6], bird.run(_SEARCH, NEEDLE))
    bird.run(
        """await copying(listener => folder("INBOX").deleteMessages(
             headers("INBOX", 7, 8), null, false, false, listener, false));"""
    )
    day.step("7 and 8 deleted")
    day.sees("in the trash on the server", {7, 8}, set(day.look().mailboxes["Trash"]))
    bird.run('await opened("Trash", 7, 8)')
    bird.run('await listening(listener => folder("Trash").emptyTrash(listener))')
    day.step("trash emptied")
    bird.run('await opened("INBOX", 3, 4, 5, 6, 9, 10)')
    day.elsewhere()
    bird.run('await until(() => !shown("INBOX").includes(10))')
    day.step("hears by IDLE that 10 is gone")
    replied = "return Boolean(headers('INBOX', 5)[0].flags & Ci.nsMsgMessageFlags.Replied)"
    day.sees("5 as answered", True, bird.run(replied))
    bird.run("server.performExpand(null); await until(() => root.containsChildNamed(given[0]))", ELSEWHERE)
    day.step("sees the new folder")


def _afternoon(day: Day, bird: Thunderbird) -> None:
    day.restart()
    bird.run('await opened("INBOX", 3, 4, 5, 6, 9, 11, 12)')
    day.step("reconnected, sees the mail of meanwhile")
    bird.run('await listening(listener => folder("INBOX").downloadAllForOffline(listener, null))')
    day.sees("every message offline", True, bird.run(_GO_OFFLINE))
    bird.run('folder("INBOX").markMessagesFlagged(headers("INBOX", 11), true)')
    bird.run('folder("INBOX").markMessagesRead(headers("INBOX", 12), true)')
    day.sees("nothing of offline work on the server yet", frozenset(), day.look().mailboxes["INBOX"][11])
    bird.run(_GO_ONLINE)
    day.until("offline work played back", lambda: "\\Seen" in day.look().mailboxes["INBOX"][12])
    # Thunderbird stores its own keyword with every flag that it plays back.
    for number in (11, 12):
        day.picture.mailboxes["INBOX"][number] |= {"$MDNSent"}


def work(day: Day) -> None:
    """New folders, subscription, moves, flags, search, trash, IDLE, a restart, offline and back."""
    with _started(day) as bird:
        _morning(day, bird)
        _noon(day, bird)
        _afternoon(day, bird)
        day.sees("Thunderbird ending well", 0, bird.quit())
