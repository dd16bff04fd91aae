"""``sealbox server-key rotate``: what it refuses and says, and a key that its owner keeps elsewhere."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_world import PASSWORD, answer, runner

from backup import key_rotation
from deploy import serving
from deploy.supervisor import lock_path
from mailstore.account import open_directory, read_server_key
from mailstore.errors import StorageFull
from mailstore.opening import scram_setup
from mailstore.server_key import HANDOVER, key_text

EXIT_USAGE, EXIT_REFUSED, EXIT_SECRET, EXIT_BUSY, EXIT_STORAGE = 2, 3, 4, 5, 6
ROTATE = ("server-key", "rotate")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sealbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The commands, over a data root with an account."""
    run: Run = runner(tmp_path, monkeypatch)
    monkeypatch.setattr(key_rotation, "PATIENCE_S", 0.0)
    assert run("account", "add", "ada@example.org", "--password-stdin", stdin=f"{PASSWORD}\n")[0] == 0
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The data root."""
    return tmp_path / "data"


@pytest.fixture
def elsewhere(sealbox: Run, root: Path, tmp_path: Path) -> Path:
    """The key, moved to where the data root only leads to, as to a credential."""
    place = tmp_path / "credential"
    (root / "server.key").rename(place)
    (root / "server.key").symlink_to(place)
    return place


def accounts(sealbox: Run) -> list[str]:
    """Their names."""
    return [one["name"] for one in answer(sealbox("account", "list", "--json"))["accounts"]]


def unchanged(root: Path) -> dict[str, bytes]:
    """Everything that must stay as it is where nothing is done."""
    names = ("server.key", "directory.db", HANDOVER)
    return {name: (root / name).read_bytes() for name in names if (root / name).exists()}


def test_a_new_key_twice(sealbox: Run, root: Path) -> None:
    """Everything is under it, and no mail program would notice."""
    for _ in range(2):
        before = read_server_key(root)
        done = answer(sealbox(*ROTATE, "--json"))
        assert done["in_place"] and done["new_key"] is None
        assert read_server_key(root) != before and not (root / HANDOVER).exists()
        assert accounts(sealbox) == ["ada@example.org"]
        shown = sealbox("account", "show", "ada@example.org")
        assert shown[0] == 0


def test_it_is_refused_while_a_server_runs(sealbox: Run, root: Path) -> None:
    """Which has the old key in its memory."""
    before = unchanged(root)
    with lock_path(root).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, said = sealbox(*ROTATE)
    assert code == EXIT_BUSY and "stop it first" in said
    assert unchanged(root) == before


def test_it_is_refused_while_another_command_works(sealbox: Run, root: Path) -> None:
    """What that writes later must not go into a file that is no more."""
    before = unchanged(root)
    directory = open_directory(root)
    code, _, said = sealbox(*ROTATE)
    assert code == EXIT_BUSY and "nothing was changed" in said
    directory.add_domain("example.net")
    directory.close()
    assert unchanged(root)["server.key"] == before["server.key"]
    assert sealbox(*ROTATE)[0] == 0
    assert "example.net" in sealbox("domain", "list")[1]


def test_two_at_once_are_one_after_the_other(
    sealbox: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one finds the first in the midst of it."""
    codes = []
    prepared = key_rotation._prepare

    def meanwhile(*args: object) -> object:
        if not codes:
            codes.append(-1)
            codes[0] = sealbox(*ROTATE)[0]
        return prepared(*args)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(key_rotation, "_prepare", meanwhile)
    assert sealbox(*ROTATE)[0] == 0 and codes == [EXIT_BUSY]
    assert accounts(sealbox) == ["ada@example.org"]


def test_a_foreign_key_is_named_and_nothing_changed(sealbox: Run, root: Path) -> None:
    """As after files of two servers were mixed."""
    good = (root / "server.key").read_bytes()
    (root / "server.key").write_bytes(key_text(bytes(32)))
    before = unchanged(root)
    code, _, said = sealbox(*ROTATE)
    assert code == EXIT_STORAGE and "is not the one it was made with: nothing was changed" in said
    assert unchanged(root) == before
    (root / "server.key").write_bytes(good)
    assert accounts(sealbox) == ["ada@example.org"]


def test_without_a_directory_there_is_nothing_to_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is made."""
    code, _, said = runner(tmp_path, monkeypatch)(*ROTATE)
    assert code == EXIT_REFUSED and "there is no data" in said
    assert not (tmp_path / "data").exists()


def test_a_full_disk_changes_nothing(sealbox: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen before anything is done, or undone."""
    before = unchanged(root)

    def full(*_args: object) -> None:
        raise StorageFull

    with monkeypatch.context() as patch:
        patch.setattr("mailstore.server_rekeying.require_room", full)
        code, _, said = sealbox(*ROTATE)
    assert code == EXIT_STORAGE and "the disk is full" in said
    assert unchanged(root) == before
    assert not [path for path in root.iterdir() if path.name.endswith(("-new", ".new"))]


def test_a_key_elsewhere_wants_to_know_where_to(sealbox: Run, elsewhere: Path, root: Path) -> None:
    """A link is not replaced, nor what it leads to."""
    before = elsewhere.read_bytes()
    code, _, said = sealbox(*ROTATE)
    assert code == EXIT_USAGE and "--new-key" in said
    assert (root / "server.key").is_symlink() and elsewhere.read_bytes() == before


def test_a_read_only_key_of_another_user_wants_to_know_where_to(
    sealbox: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was given to somebody else on purpose."""
    owners = {root: os.geteuid(), root / "server.key": os.geteuid() + 1}
    monkeypatch.setattr("deploy.cli.server_key._owner_of", owners.__getitem__)
    code, _, said = sealbox(*ROTATE)
    assert code == EXIT_USAGE and "another user's" in said


def test_root_does_not_leave_files_that_the_server_cannot_read(
    sealbox: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the key is root's, root works as root; the data may be another user's all the same."""
    before = unchanged(root)
    monkeypatch.setattr("deploy.cli.server_key._owner_of", lambda _: os.geteuid() + 1)
    for more in ((), ("--new-key", str(root.parent / "new"))):
        code, _, said = sealbox(*ROTATE, *more)
        assert code == EXIT_REFUSED and "run it as that user" in said
    assert unchanged(root) == before


def test_a_key_that_its_owner_may_only_read_is_exchanged(
    sealbox: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder may be written to; root is refused nothing, so what others are refused is played here."""
    key, opened = root / "server.key", os.open
    key.chmod(0o400)

    def as_others(path: Any, flags: int, *more: Any, **others: Any) -> int:
        if path == key and flags & os.O_RDWR and not key.stat().st_mode & 0o200:
            raise PermissionError
        return opened(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", as_others)
    assert sealbox(*ROTATE)[0] == 0
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_put_in_place_under_a_running_server(
    sealbox: Run, elsewhere: Path, root: Path, tmp_path: Path
) -> None:
    """Commands say that it has to be restarted; what strangers see stays."""
    directory = open_directory(root)
    salt = scram_setup(root, directory, "nobody@example.org").salt
    directory.close()
    new = tmp_path / "new.key"
    assert sealbox(*ROTATE, "--new-key", str(new))[0] == 0
    directory = open_directory(root)
    elsewhere.write_bytes(new.read_bytes())
    assert scram_setup(root, directory, "nobody@example.org").salt == salt
    code, _, said = sealbox("account", "list")
    assert code == EXIT_BUSY and "restart it" in said
    directory.close()
    assert accounts(sealbox) == ["ada@example.org"]


def test_nothing_is_lost_when_the_operator_forgets_to_put_the_key_in_its_place(
    sealbox: Run, elsewhere: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The present one stays in use, for days, with all that changes; then the new one gets everything."""
    new = tmp_path / "new.key"
    code, said, _ = sealbox(*ROTATE, "--new-key", str(new))
    assert code == 0 and str(new) in said and str(elsewhere) in said and "systemd-creds" in said
    assert new.stat().st_mode & 0o777 == 0o600
    assert sealbox("domain", "add", "example.net")[0] == 0
    with caplog.at_level(logging.WARNING):
        serving._finish_key_exchange(root)
    assert "is not in its place" in caplog.text
    elsewhere.write_bytes(new.read_bytes())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        serving._finish_key_exchange(root)
    assert "everything is under the new one" in caplog.text
    assert "example.net" in sealbox("domain", "list")[1]
    assert (root / "server.key").is_symlink() and not (root / HANDOVER).exists()


def test_the_next_command_finishes_it_as_well(sealbox: Run, elsewhere: Path, tmp_path: Path) -> None:
    """It need not be the server."""
    new = tmp_path / "new.key"
    assert sealbox(*ROTATE, "--new-key", str(new))[0] == 0
    elsewhere.write_bytes(new.read_bytes())
    code, said, remark = sealbox("account", "list")
    assert code == 0 and "ada@example.org" in said and "is done now" in remark
    assert sealbox("account", "list")[2] == ""


def test_a_credential_of_a_stopped_service_is_given(sealbox: Run, elsewhere: Path, tmp_path: Path) -> None:
    """The link leads nowhere then."""
    present = tmp_path / "decrypted"
    elsewhere.rename(present)
    new = tmp_path / "new.key"
    code, _, said = sealbox(*ROTATE, "--new-key", str(new))
    assert code == EXIT_USAGE and "--key" in said and "systemd-creds decrypt" in said
    wrong = tmp_path / "wrong"
    wrong.write_bytes(key_text(bytes(32)))
    code, _, said = sealbox(*ROTATE, "--new-key", str(new), "--key", str(wrong))
    assert code == EXIT_SECRET and "not the key that directory.db was made with" in said
    wrong.write_bytes(b"\xff" * 100)
    code, _, said = sealbox(*ROTATE, "--new-key", str(new), "--key", str(wrong))
    assert code == EXIT_USAGE and "64 hexadecimal digits" in said
    code, _, said = sealbox(*ROTATE, "--new-key", str(new), "--key", str(tmp_path / "nothing"))
    assert code == EXIT_USAGE and "cannot be read" in said
    assert not new.exists()
    assert sealbox(*ROTATE, "--new-key", str(new), "--key", str(present))[0] == 0
    elsewhere.write_bytes(new.read_bytes())
    assert accounts(sealbox) == ["ada@example.org"]


def test_a_new_key_is_never_written_over_another_file(sealbox: Run, elsewhere: Path, tmp_path: Path) -> None:
    """Nor where nothing can be written; both change nothing."""
    there = tmp_path / "there"
    there.write_text("mine")
    code, _, said = sealbox(*ROTATE, "--new-key", str(there))
    assert code == EXIT_REFUSED and "never overwritten" in said and there.read_text() == "mine"
    code, _, said = sealbox(*ROTATE, "--new-key", str(tmp_path / "no folder" / "new"))
    assert code == EXIT_STORAGE and "cannot be written" in said
    assert not (elsewhere.parent / "data" / HANDOVER).exists()


def test_a_new_key_is_not_written_into_the_data_root(sealbox: Run, elsewhere: Path, root: Path) -> None:
    """Where it would be taken for something else, and kept beside what it protects."""
    code, _, said = sealbox(*ROTATE, "--new-key", str(root / "new.key"))
    assert code == EXIT_USAGE and "outside of it" in said and not (root / "new.key").exists()
    assert elsewhere.exists()


def test_a_change_of_mind(sealbox: Run, elsewhere: Path, root: Path, tmp_path: Path) -> None:
    """The present key stays, and the one that was made opens nothing; of several only the last one counts."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert sealbox(*ROTATE, "--abandon")[0] == EXIT_REFUSED
    assert sealbox(*ROTATE, "--new-key", str(first))[0] == 0
    handed_over = (root / HANDOVER).read_bytes()
    stranger = tmp_path / "stranger"
    stranger.write_text("ab" * 32 + "\n")
    assert sealbox(*ROTATE, "--abandon", "--key", str(stranger))[0] != 0
    assert (root / HANDOVER).read_bytes() == handed_over
    assert answer(sealbox(*ROTATE, "--abandon", "--json")) == {"abandoned": True}
    assert not (root / HANDOVER).exists() and accounts(sealbox) == ["ada@example.org"]
    assert sealbox(*ROTATE, "--new-key", str(second))[0] == 0
    present = elsewhere.read_bytes()
    elsewhere.write_bytes(first.read_bytes())
    assert sealbox("account", "list")[0] == EXIT_STORAGE
    elsewhere.write_bytes(present)
    assert accounts(sealbox) == ["ada@example.org"]
    elsewhere.write_bytes(second.read_bytes())
    assert accounts(sealbox) == ["ada@example.org"]


def test_no_key_is_said(sealbox: Run, elsewhere: Path, root: Path, tmp_path: Path) -> None:
    """Only the public halves of the signing keys."""
    new = tmp_path / "new.key"
    said = sealbox(*ROTATE, "--new-key", str(new), "--json")
    text = json.dumps(said)
    assert read_server_key(root).hex() not in text and new.read_text().strip() not in text
