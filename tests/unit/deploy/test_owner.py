"""Commands that root calls over another user's data leave nothing that this user cannot read."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from deploy import config as configuration
from deploy import serving
from deploy.cli import account as account_module
from deploy.cli import owner as owner_module
from deploy.cli import snapshot_store, transfer
from deploy.cli.main import main
from deploy.cli.owner import Owner, as_caller, other_owner, working_as
from deploy.cli.root import Cli
from deploy.first_run import make_certificate
from mailstore.errors import StorageFailed
from mailstore.keys import Argon2Params
from mailstore.server_key import SERVER_KEY_NAME

NOBODY = 65534
PASSWORD = "a good password\n"
REPOSITORY = Path(__file__).parents[3]


class FakeSystem:
    """Who this process is, and whose a path is, as far as it was said; notes who it becomes."""

    def __init__(self, uid: int, owners: dict[Path, int]) -> None:
        self.uid = self.euid = uid
        self.owners = owners
        self.became: list[tuple[str, object]] = []

    def ids(self, path: Path) -> tuple[int, int] | None:
        """Its owner and group."""
        return (self.owners[path], self.owners[path] + 1) if path in self.owners else None

    def set(self, what: str) -> object:
        """A function that changes who this process is."""

        def change(*values: object) -> None:
            self.became.append((what, values))
            if what == "seteuid":
                self.euid = int(str(values[0]))

        return change


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSystem:
    """Root, and a data root of somebody else's who has no name here."""
    made = FakeSystem(0, {tmp_path: 4711})
    names = ("setgroups", "setegid", "seteuid", "initgroups")
    system = SimpleNamespace(
        geteuid=lambda: made.euid,
        getuid=lambda: made.uid,
        getegid=lambda: 0,
        getgroups=lambda: [0, 27],
        **{name: made.set(name) for name in names},
    )
    monkeypatch.setattr(owner_module, "os", system)
    monkeypatch.setattr(owner_module, "_ids", made.ids)
    return made


BECOMES = [("setgroups", ([],)), ("setegid", (4712,)), ("seteuid", (4711,))]
BECOMES_ROOT = [("seteuid", (0,)), ("setegid", (0,)), ("setgroups", ([0, 27],))]


def test_root_works_as_the_owner_before_anything_is_opened(
    fake: FakeSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups first, while it still may; and is root again at the end."""
    seen: list[object] = []

    def fail(_root: Path) -> None:
        seen.extend(fake.became)
        raise StorageFailed

    monkeypatch.setattr(account_module, "init_root", fail)
    arguments = ["--data", str(tmp_path), "account", "add", "a@example.org", "--password-stdin"]
    done = CliRunner().invoke(main, arguments, input=PASSWORD)
    assert seen == BECOMES
    assert fake.became == BECOMES + BECOMES_ROOT
    assert done.exit_code == 6 and "(tried as the user 4711, who owns the data)" in done.stderr


@pytest.mark.parametrize(
    ("uid", "key_uid", "root_uid", "owner"),
    [
        (0, None, 0, None),
        (0, 0, 4711, None),
        (0, 4711, 0, 4711),
        (0, None, 4711, 4711),
        (5, 4711, 4711, None),
    ],
)
def test_the_server_key_tells_whose_the_data_are(
    fake: FakeSystem, tmp_path: Path, uid: int, key_uid: int | None, root_uid: int, owner: int | None
) -> None:
    """Before there is one, the folder does; and nobody but root becomes anybody else."""
    fake.euid = uid
    fake.owners = {tmp_path: root_uid} | ({} if key_uid is None else {tmp_path / SERVER_KEY_NAME: key_uid})
    assert other_owner(tmp_path) == (None if owner is None else Owner(owner, owner + 1, None))
    assert other_owner(tmp_path / "not there") is None


def test_a_server_key_that_is_a_credential_of_systemd_tells_nothing(fake: FakeSystem, tmp_path: Path) -> None:
    """The link leads to a file of root's; the folder says whose the data are."""
    credential = tmp_path / "elsewhere"
    credential.touch()
    key = tmp_path / SERVER_KEY_NAME
    key.symlink_to(credential)
    fake.owners[key] = 0
    found = other_owner(tmp_path)
    assert found is not None and found.uid == 4711


def test_files_that_were_named_are_opened_as_the_caller(fake: FakeSystem) -> None:
    """And only they."""
    with working_as(Owner(4711, 4712, "ada")):
        with as_caller():
            assert fake.euid == 0
        assert fake.euid == 4711
    assert fake.became[0] == ("initgroups", ("ada", 4712)) and fake.euid == 0


def test_credentials_that_were_named_are_read_as_the_caller(
    fake: FakeSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the configuration are the server's own, and are not."""
    seen: list[int] = []
    monkeypatch.setattr(snapshot_store, "open_store", lambda *_: seen.append(fake.euid))
    config = SimpleNamespace(backup=None, snapshots=None)
    monkeypatch.setattr(snapshot_store, "configured", lambda _cli: config)
    cli = Cli(tmp_path, False, Argon2Params(1, 8, 1), tmp_path / "sealbox.toml")
    with working_as(Owner(4711, 4712, None)):
        for store in ("s3://bucket/prefix", None):
            options = snapshot_store.StoreOptions(store, None, "auto", tmp_path / "s3.toml", None, None)
            snapshot_store.chosen_store(cli, options)
    assert seen == [0, 4711]


@pytest.mark.parametrize("name", ["serve", "quickstart"])
def test_a_server_does_not_serve_anothers_data_as_root(
    fake: FakeSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It would leave files that the server could not read when it is started as it should be."""
    monkeypatch.setattr(serving, "run", lambda *_: pytest.fail("it was started"))
    monkeypatch.setattr(configuration, "load", lambda _path: SimpleNamespace(data=tmp_path))
    done = CliRunner().invoke(main, [name, "--data", str(tmp_path)])
    assert done.exit_code == 3 and not list(tmp_path.iterdir())
    assert "belong to the user 4711: start the server as that user" in done.stderr


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are root's alone."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def reachable_by_all() -> bool:
    """Whether another user can run what runs here."""
    folders = [*REPOSITORY.parents, REPOSITORY, *Path(sys.executable).parents, *Path(sys.prefix).parents]
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)


@pytest.mark.skipif(
    os.geteuid() != 0 or not reachable_by_all(), reason="root's commands, where others can run them"
)
def test_what_root_restores_the_server_can_read(place: Path) -> None:
    """Nothing is left in another user's data that is root's, and the private key may be root's alone."""
    root, objects, secret = place / "root", place / "objects", place / "secret"
    for folder in (root, objects):
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
    secret.mkdir(mode=0o700)

    def run(*arguments: object, stdin: str = "") -> None:
        done = CliRunner().invoke(
            main, ["--config", str(place / "sealbox.toml"), *map(str, arguments)], input=stdin
        )
        assert done.exit_code == 0, done.output
        assert os.geteuid() == os.getegid() == 0

    (place / "sealbox.toml").write_text(f'data = "{root}"\n')
    run("backup", "keygen", "--private", secret / "private", "--public", place / "public")
    os.chmod(place / "public", 0o644)
    make_config(place)
    run("account", "add", "ada@example.org", "--password-stdin", stdin="a good password\n")
    run(
        "app-password",
        "add",
        "ada@example.org",
        "--label",
        "phone",
        "--password-stdin",
        stdin="a good password\n",
    )
    run("backup", "run")
    run("restore", "ada@example.org", "--replace")
    run("backup", "drill")
    store = ("--store", f"file://{objects}", "--private-key", secret / "private")
    run("restore", "ada@example.org", "--replace", *store)
    everything = [*root.rglob("*"), *objects.rglob("*")]
    assert len(list((root / "replaced").iterdir())) == 2
    assert {path.stat().st_uid for path in everything} == {NOBODY}
    assert {path.stat().st_gid for path in everything} == {NOBODY}


@pytest.mark.skipif(
    os.geteuid() != 0 or not reachable_by_all(), reason="root's commands, where others can run them"
)
def test_root_moves_mail_between_files_of_its_own_and_the_servers_data(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read and written outside is root's alone, what is in the data is its owner's."""
    monkeypatch.setattr(transfer, "process_hardening", lambda: None)  # this process is the tests'
    root, secret = place / "root", place / "secret"
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    (secret / "Maildir" / "cur").mkdir(parents=True)
    secret.chmod(0o700)
    (secret / "Maildir" / "cur" / "1.a:2,S").write_bytes(b"Subject: a\n\nA\n")
    (secret / "Maildir" / "cur" / "1.a:2,S").chmod(0o600)
    (place / "sealbox.toml").write_text(
        f'data = "{root}"\n[argon2]\ntime_cost = 1\nmemory_kib = 8\nparallelism = 1\n'
    )

    def run(*arguments: str) -> None:
        config = ["--config", str(place / "sealbox.toml")]
        done = CliRunner().invoke(
            main, [*config, *arguments, "--password-stdin"], input="a good password\n" * 2
        )
        assert done.exit_code == 0, done.output
        assert os.geteuid() == os.getegid() == 0

    run("account", "add", "ada@example.org")
    run("import", "ada@example.org", "--from", f"maildir:{secret}/Maildir")
    for kind in ("mbox", "maildir", "eml", "sqlite"):
        run("export", "ada@example.org", "--to", f"{kind}:{secret}/out-{kind}")
        run("export", "ada@example.org", "--to", f"{kind}:{secret}/out-{kind}", "--update")
    run("import", "ada@example.org", "--from", f"eml:{secret}/out-eml")
    assert {path.stat().st_uid for path in root.rglob("*")} == {NOBODY}
    assert {path.stat().st_uid for path in secret.rglob("*")} == {0}
    assert len(list((secret / "out-maildir" / "cur").iterdir())) == 1


def make_config(place: Path) -> None:
    """A configuration with cheap passwords, and a certificate that everybody can read."""
    make_certificate(place / "c.pem", place / "k.pem")
    for name in ("c.pem", "k.pem"):
        os.chmod(place / name, 0o644)
    (place / "sealbox.toml").write_text(
        f'data = "{place}/root"\n[tls]\ncertificate = "{place}/c.pem"\nprivate_key = "{place}/k.pem"\n'
        f'[backup]\nstore = "file://{place}/objects"\npublic_key = "{place}/public"\n'
        "[argon2]\ntime_cost = 1\nmemory_kib = 8\nparallelism = 1\n"
    )
