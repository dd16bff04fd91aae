"""What is known of an object store from its settings, before it is asked anything."""

from __future__ import annotations

import pytest

from deploy.config import BackupSection
from deploy.object_store import is_encrypted_on_the_way, store_address
from deploy.privacy import kept
from deploy.privacy.finding import State


def section(store: str, endpoint: str | None = None) -> BackupSection:
    """A section that names a store."""
    return BackupSection.model_construct(store=store, endpoint=endpoint, region="eu-west-1")


@pytest.mark.parametrize(
    ("store", "endpoint", "address", "encrypted"),
    [
        ("", None, None, True),
        ("file:///mnt/snapshots", None, None, True),
        ("s3://b/p", None, ("s3.eu-west-1.amazonaws.com", 443), True),
        ("s3://b/p", "https://id.r2.cloudflarestorage.com", ("id.r2.cloudflarestorage.com", 443), True),
        ("s3://b/p", "https://[2001:db8::1]:9000", ("2001:db8::1", 9000), True),
        ("s3://b/p", "http://store.example.net", ("store.example.net", 80), False),
        ("s3://b/p", "http://192.0.2.7:9000", ("192.0.2.7", 9000), False),
        ("s3://b/p", "http://127.0.0.1:9000", ("127.0.0.1", 9000), True),
        ("s3://b/p", "http://localhost:9000", ("localhost", 9000), True),
    ],
)
def test_where_snapshots_go_and_how(
    store: str, endpoint: str | None, address: tuple[str, int] | None, encrypted: bool
) -> None:
    """Host and port, and whether they leave the machine without TLS, which is not as promised."""
    found = section(store, endpoint)
    assert store_address(found) == address
    assert is_encrypted_on_the_way(found) == encrypted
    assert kept.in_transit(encrypted).state is (State.HOLDS if encrypted else State.BROKEN)
