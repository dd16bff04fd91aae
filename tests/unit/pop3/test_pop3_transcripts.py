"""POP3's transcripts are played, and every capability has one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pop3_world import Pop3World

from mailstore.model import SpecialUse, SystemFlag
from protocols.limits import LoginLimits
from protocols.pop3.commands import State, capabilities
from protocols.sasl import MECHANISMS
from protocols.scram import SCRAM, SCRAM_PLUS
from tests.transcripts.memory_world import SHORT_SAMPLE, MemoryPeer, changed_settings
from tests.transcripts.runner import Transcript
from tests.wire import Client

FILES = sorted((Path(__file__).parents[2] / "transcripts" / "pop3").glob("pop3_*.txt"))
LISTED = LoginLimits(list_scram=True)
COVERS = re.compile(r"^# covers: (.+)$", re.MULTILINE)


class TranscriptWorld:
    """``@plain`` starts without TLS, ``@messages N`` fills the INBOX, ``@revoke`` closes the account.

    ``@mailbox NAME USE`` makes a mailbox, ``@pop3 SETTING VALUE`` changes one of the account's settings,
    ``@seen MAILBOX N`` counts what is marked as read. ``@nonce`` changes nothing here: see ``MemoryWorld``.
    """

    def __init__(self) -> None:
        self._world = Pop3World(login_limits=LISTED)
        self._actions: dict[str, Callable[..., None]] = {
            "plain": self._plain,
            "messages": self._messages,
            "revoke": lambda: self._world.account.close_sessions(),
            "mailbox": self._mailbox,
            "pop3": self._pop3,
            "seen": self._seen,
            "nonce": lambda: None,
        }

    def act(self, name: str, words: list[str]) -> None:
        """See ``World``."""
        self._actions[name](*words)

    def connect(self) -> MemoryPeer:
        """See ``World``."""
        return MemoryPeer(Client(self._world.factory))

    def _plain(self) -> None:
        self._world = Pop3World(implicit_tls=False, login_limits=LISTED)

    def _mailbox(self, name: str, use: str = "") -> None:
        self._world.account.create(name, SpecialUse(use) if use else None)

    def _pop3(self, setting: str, value: str) -> None:
        self._world.account.pop3 = changed_settings(self._world.account.pop3, setting, value)

    def _seen(self, mailbox: str, count: str) -> None:
        messages = self._world.account.mailboxes[mailbox].messages.values()
        assert sum(bool(one.flags.system & SystemFlag.SEEN) for one in messages) == int(count)

    def _messages(self, count: str) -> None:
        for number in range(1, int(count) + 1):
            self._world.account.deliver(SHORT_SAMPLE % (number, number))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    """The server says exactly what is written, and the file names its RFC."""
    Transcript(path, TranscriptWorld()).play()
    assert re.search(r"^# .*RFC \d+ section \d", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_capability_has_a_transcript() -> None:
    """Nothing is listed in any state that no transcript covers."""
    everything = (*MECHANISMS, SCRAM, SCRAM_PLUS), 60
    lines = [line for state in State for line in capabilities(state, True, *everything)]
    listed = {line.split()[0].decode() for line in lines}
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    covered = {name for text in texts for names in COVERS.findall(text) for name in names.split()}
    assert listed == covered
