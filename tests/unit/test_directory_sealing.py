"""What is sealed for a directory in PostgreSQL, and read from its settings; none of it needs the database."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from directory_worlds import record
from postgresql_world import KEY

from mailstore.directory import PostgresPlace, pg_schema
from mailstore.directory.sealing import Sealer, account_of, account_value
from mailstore.keys import PublicKey
from mailstore.model import Pop3Settings


def test_sealing_is_bound_to_place_number_and_key():
    """What is at one place opens there alone; lengths tell little."""
    place = pg_schema.Place("account", b"row", 7)
    sealer = Sealer(KEY, b"d" * 16)
    sealed = sealer.seal(place, {"name": "joe"})
    assert sealer.open(place, sealed) == {"name": "joe"}
    assert len(sealed) == len(sealer.seal(place, {"name": "somebody else"}))
    assert sealed != sealer.seal(place, {"name": "joe"})
    for other in (replace(place, table="domain"), replace(place, row=b"roW"), replace(place, changed=8)):
        with pytest.raises(ValueError, match="belong"):
            sealer.open(other, sealed)
    for stranger in (Sealer(bytes(32), b"d" * 16), Sealer(KEY, b"e" * 16)):
        with pytest.raises(ValueError, match="belong"):
            stranger.open(place, sealed)
    assert sealer.hashed("address", "joe") != sealer.hashed("domain", "joe")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://me@db.example.org/x", [("db.example.org", 5432)]),
        ("postgresql://a:1,b:2/x?target_session_attrs=read-write", [("a", 1), ("b", 2)]),
        ("postgresql://a,b:7/x", [("a", 5432), ("b", 7)]),
        ("postgresql://[::1]:9/x", [("::1", 9)]),
        ("postgresql:///x?host=/run/postgresql", []),
        ("postgresql:///x", []),
        ("postgresql://h/x?colour=blue", []),
        ("postgresql://h/x?port=many", [("h", 5432)]),
    ],
)
def test_hosts_of_a_url_are_those_that_libpq_connects_to(url, hosts):
    """So that 'sealbox privacy check' knows whom the server may call."""
    assert PostgresPlace(url).hosts() == hosts


def test_what_is_stored_is_what_the_format_says():
    """FORMAT.md section 16, once more from what every language has."""

    def derive(key, label, length):
        extracted = hmac.digest(bytes(32), key, "sha256")
        return hmac.digest(extracted, label.encode() + b"\x01", "sha256")[:length]

    directory_id, row, nonce = b"d" * 16, b"r" * 32, bytes(range(12))
    sealer = Sealer(KEY, directory_id, random=lambda size: nonce[:size])
    lookup = derive(KEY, "sealbox/1/directory-lookup", 32)
    said = directory_id.hex().encode() + b"\0address\0" + "änne@bücher.example".encode()
    assert sealer.hashed("address", "änne@bücher.example") == hmac.digest(lookup, said, "sha256")
    key_id = derive(KEY, "sealbox/1/directory-key-id", 8)
    assert sealer.key_id == key_id
    data = b"sealbox/1/directory-row\0" + key_id + directory_id + b"domain\0" + (258).to_bytes(8, "big") + row
    text = '{"name":"bücher.example","quota_bytes":null}'.encode()
    rows = AESGCM(derive(KEY, "sealbox/1/directory-rows", 32))
    sealed = nonce + rows.encrypt(nonce, text + b" " * (128 - len(text)), data)
    value = {"name": "bücher.example", "quota_bytes": None}
    assert sealer.seal(pg_schema.Place("domain", row, 258), value) == sealed
    assert PostgresPlace("").cluster_key(KEY) == derive(KEY, "sealbox/1/directory-cluster", 32)


def test_records_survive_sealing():
    """All fields."""
    pop3 = Pop3Settings("Archive", True, True, 5)
    full = replace(record(quota=3), disabled=True, pop3=pop3, public_key=PublicKey(bytes(1216)))
    assert account_of(account_value(full), 9) == replace(full, domain_quota_bytes=9)
