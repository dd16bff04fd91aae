"""sealbox volume: what it refuses, what it asks, where a passphrase goes.

On real devices it is tested by ``python -m tests.powercut.volume``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy import volume as volumes
from deploy.cli import volume as commands
from deploy.cli.main import main
from deploy.volume import UNFINISHED, Content

PASSPHRASE = "a long passphrase"
DEVICE = Path("/dev/nosuch")
EMPTY = Content("", "", "", (), ())
EXT4 = Content("ext4", "home", "0123", (), ())


class Machine:
    """Calls of programs, noted instead of made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.called: list[tuple[Sequence[str], bytes]] = []
        self.fails: dict[str, tuple[int, bytes]] = {}
        self.content = EMPTY
        self._point = tmp_path / "data"
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(volumes, "content_of", lambda _: self.content)
        monkeypatch.setattr(volumes, "size_of", lambda _: "20G")
        monkeypatch.setattr(volumes, "require_tools", lambda *_: None)
        monkeypatch.setattr(volumes, "require_root", lambda: None)

    def _run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        self.called.append((command, options.get("input", b"")))
        for words, (code, said) in self.fails.items():
            if words in " ".join(command):
                return subprocess.CompletedProcess(command, code, b"", said)
        return subprocess.CompletedProcess(command, 0, b"0123-uuid\n", b"")

    @property
    def programs(self) -> list[str]:
        """What was called, without options."""
        return [
            " ".join(command[:2]) if command[0] == "cryptsetup" else command[0] for command, _ in self.called
        ]

    def create(self, *options: str, given: str = PASSPHRASE) -> Result:
        """sealbox volume create."""
        arguments = ["volume", "create", str(DEVICE), "--passphrase-stdin", "--mount", str(self._point)]
        return CliRunner().invoke(main, [*arguments, *options], input=given + "\n")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A machine whose device is empty."""
    return Machine(monkeypatch, tmp_path)


def test_the_passphrase_is_no_argument(machine: Machine) -> None:
    """Arguments of processes are public; it goes to cryptsetup alone, on its standard input."""
    said = machine.create()
    assert said.exit_code == 0, said.output
    assert machine.programs[:4] == ["wipefs", "cryptsetup luksFormat", "cryptsetup open", "mkfs.ext4"]
    for command, given in machine.called:
        assert PASSPHRASE not in " ".join(command)
        assert (PASSPHRASE.encode() == given) == (
            command[:2] in (["cryptsetup", "luksFormat"], ["cryptsetup", "open"])
        )
    assert "UUID=0123-uuid" in said.output
    assert PASSPHRASE not in said.output


def test_what_is_there_is_named_before_it_is_destroyed(machine: Machine) -> None:
    """Without a terminal nothing is asked, so it has to be said."""
    machine.content = EXT4
    said = machine.create()
    assert (said.exit_code, machine.called) == (3, [])
    for part in (str(DEVICE), "20G", "ext4 labelled home", "--erase"):
        assert part in said.output
    assert machine.create("--erase").exit_code == 0


def test_partitions_are_something_to_lose(machine: Machine) -> None:
    """Also where nothing else is recognised."""
    machine.content = Content("", "", "", (), ("/dev/nosuch1 (part, 9G)",))
    said = machine.create()
    assert (said.exit_code, machine.called) == (3, [])
    assert "/dev/nosuch1 (part, 9G)" in said.output


@pytest.mark.parametrize(
    "content",
    [
        Content("ext4", "", "", ("/home",), ()),
        Content("", "", "", ("[SWAP]",), ("/dev/nosuch1 (part, 9G)",)),
        Content("crypto_LUKS", "", "", (), ("/dev/mapper/other (crypt, 9G)",)),
    ],
)
def test_a_device_in_use_is_refused(machine: Machine, content: Content) -> None:
    """Mounted, swap, or opened: whatever is given."""
    machine.content = content
    said = machine.create("--erase")
    assert (said.exit_code, machine.called) == (3, [])
    assert "in use" in said.output


def test_what_was_broken_off_is_begun_again(machine: Machine) -> None:
    """A volume without a file system yet has nothing to lose."""
    machine.content = Content("crypto_LUKS", UNFINISHED, "0123", (), ())
    assert machine.create().exit_code == 0


@pytest.mark.parametrize("step", ["mkfs.ext4", "config", "mount -t"])
def test_a_step_that_fails_leaves_nothing_open(machine: Machine, step: str) -> None:
    """The device is closed again, and the sentence says what the program said last."""
    machine.fails[step] = (1, b"first line\nno space at all.\n")
    said = machine.create()
    assert said.exit_code == 3
    assert "no space at all" in said.output
    assert machine.programs[-1] == "cryptsetup close"


def test_a_short_passphrase_is_refused(machine: Machine) -> None:
    """Before anything is destroyed."""
    assert (machine.create(given="short").exit_code, machine.called) == (3, [])


def test_a_wrong_passphrase_has_its_exit_code(machine: Machine, tmp_path: Path) -> None:
    """cryptsetup says 2 for it, and for nothing else."""
    arguments = ["volume", "open", str(DEVICE), "--passphrase-stdin", "--mount", str(tmp_path / "data")]
    machine.fails["cryptsetup open"] = (2, b"No key available with this passphrase.\n")
    assert CliRunner().invoke(main, arguments, input="wrong\n").exit_code == 4
    machine.fails["cryptsetup open"] = (4, b"Device is not a valid LUKS device.\n")
    assert CliRunner().invoke(main, arguments, input="wrong\n").exit_code == 3


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """And one that is empty."""
    file = tmp_path / "key"
    file.write_bytes(b"octets")
    for mode, refused in ((0o644, True), (0o640, True), (0o600, False), (0o400, False)):
        file.chmod(mode)
        key = commands._Key(file, False)
        if refused:
            with pytest.raises(commands.Refusal, match="chmod 600"):
                key.read(is_new=True)
        else:
            assert key.read(is_new=True) == b"octets"
    file.chmod(0o600)
    file.write_bytes(b"")
    with pytest.raises(commands.Refusal, match="empty"):
        commands._Key(file, False).read(is_new=True)


def test_it_mounts_over_nothing(machine: Machine, tmp_path: Path) -> None:
    """Mail that lies in the folder would be hidden."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/directory.db").touch()
    said = machine.create()
    assert (said.exit_code, machine.called) == (3, [])
    assert "is not empty" in said.output


def test_whoever_has_files_open_is_named(tmp_path: Path) -> None:
    """Processes by their working folder and descriptors."""
    proc = tmp_path / "proc"
    for number, link in (("12", "cwd"), ("3", "fd/0")):
        (proc / number / "fd").mkdir(parents=True)
        (proc / number / link).symlink_to(tmp_path)
        (proc / number / "comm").write_text(f"program{number}\n")
    (proc / "5").mkdir()
    assert volumes.users_of(tmp_path, proc) == ["program3 (3)", "program12 (12)"]
