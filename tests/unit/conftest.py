"""Fixtures of the tests of commands and of directories.

What they need is imported late: most tests have nothing to do with it.
"""

import pytest


@pytest.fixture(autouse=True)
def _what_is_said_of_data_roots():
    """Forget with each test how it has called data roots: a server with a name looks at more files."""
    from mailstore import lease
    from mailstore.directory import nodes, places

    said = nodes._names, places._places, lease._settings, lease._leases
    before = [dict(one) for one in said]
    yield
    for one, earlier in zip(said, before, strict=True):
        one.clear()
        one.update(earlier)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run sealbox with a data root of its own and cheap Argon2; gives (exit code, stdout, stderr)."""
    from command_world import runner

    return runner(tmp_path, monkeypatch)


@pytest.fixture
def joe(run):
    """Run, with the account joe@example.org there."""
    from command_world import PASSWORD

    code, _out, _err = run("account", "add", "joe@example.org", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert code == 0
    return run


@pytest.fixture(params=["embedded", "postgresql"])
def another(request, tmp_path):
    """Opens a directory that begins empty, as each process does for itself; once for each kind there is."""
    from directory_worlds import KINDS

    return KINDS[request.param](tmp_path, request)


@pytest.fixture
def directory(another):
    """Such a directory with one account."""
    from directory_worlds import record

    directory = another()
    directory.add_account(record())
    yield directory
    directory.close()
