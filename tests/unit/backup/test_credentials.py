"""Where the keys of the bucket come from, and that they stay there."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.errors import StoreRefused
from backup.store_s3 import find_credentials
from mailstore.errors import StorageFailed

BY_FILE = 'access_key_id = "file-id"\nsecret_access_key = "file-secret"\n'
BY_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "environment-id", "AWS_SECRET_ACCESS_KEY": "environment-secret"}


def test_the_file_comes_first_then_systemd_then_the_environment(tmp_path: Path) -> None:
    """Each is used when those before it are not there."""
    (tmp_path / "s3.toml").write_text(BY_FILE)
    systemd = tmp_path / "credentials"
    systemd.mkdir()
    environment = {**BY_ENVIRONMENT, "CREDENTIALS_DIRECTORY": str(systemd)}
    found = find_credentials(None, environment)
    assert found is not None and found.access_key_id == "environment-id"
    (systemd / "sealbox-s3").write_text(BY_FILE.replace("file-", "systemd-"))
    found = find_credentials(None, environment)
    assert found is not None and found.secret_access_key == "systemd-secret"
    found = find_credentials(tmp_path / "s3.toml", environment)
    assert found is not None and found.access_key_id == "file-id"
    assert "file" not in repr(found)


def test_there_may_be_none() -> None:
    """Half a pair is none."""
    assert find_credentials(None, {}) is None
    assert find_credentials(None, {"AWS_ACCESS_KEY_ID": "alone"}) is None


@pytest.mark.parametrize("text", ["", "access_key_id = 'secret-looking'", "= =", "\xff"])
def test_a_file_that_is_none_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    """The sentence names what is missing and quotes nothing."""
    path = tmp_path / "s3.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreRefused) as caught:
        find_credentials(path, {})
    assert "secret-looking" not in str(caught.value)
    with pytest.raises(StorageFailed):
        find_credentials(tmp_path / "nowhere.toml", {})
