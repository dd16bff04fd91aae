"""The test vectors of invitations: what was written by version 1 opens as long as it is valid."""

import base64
import json
from pathlib import Path

import pytest

from mailstore.errors import AuthenticationFailed, HeaderTampered
from mailstore.keys import decode_invitation, encode_invitation, open_invitation, read_token

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "invitations.json").read_text("utf-8"))
MASTER = bytes.fromhex(VECTORS["master"])
VALID = 1_700_000_001.0


@pytest.mark.parametrize("case", VECTORS["good"], ids=["device", "owner"])
def test_the_token_opens_the_file(case):
    """It gives the master key, up to the last second of its time, and encodes to the same bytes."""
    token, invitation = read_token(case["token"]), decode_invitation(case["file"].encode())
    assert token is not None
    assert token.text() == case["token"]
    assert encode_invitation(invitation) == case["file"].encode()
    assert open_invitation(invitation, token, VALID) == MASTER
    assert open_invitation(invitation, token, float(invitation.not_after)) == MASTER
    with pytest.raises(AuthenticationFailed):
        open_invitation(invitation, token, invitation.not_after + 0.5)


@pytest.mark.parametrize("name", VECTORS["broken"])
def test_a_changed_file_opens_for_nobody(name):
    """Neither a wider scope nor a longer time can be written into it."""
    token = read_token(VECTORS["good"][0]["token"])
    data = base64.b64decode(VECTORS["broken"][name])
    assert data != VECTORS["good"][0]["file"].encode()
    with pytest.raises((HeaderTampered, AuthenticationFailed)):
        open_invitation(decode_invitation(data), token, VALID)


@pytest.mark.parametrize("at", range(40))
def test_another_secret_opens_nothing(at):
    """Each character of the secret counts; those of the id only find the file."""
    text = VECTORS["good"][0]["token"]
    other = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    token, invitation = read_token(other), decode_invitation(VECTORS["good"][0]["file"].encode())
    if at < 8:
        assert token.id != invitation.id
    else:
        with pytest.raises(AuthenticationFailed):
            open_invitation(invitation, token, VALID)


@pytest.mark.parametrize(
    "text", ["", "a" * 39, "a" * 41, "A" * 40, "a" * 39 + "u", "../" + "a" * 37, "a" * 39 + "\n"]
)
def test_what_is_no_token(text):
    """It names a file, so its form is exact."""
    assert read_token(text) is None


def test_a_token_shows_no_secret():
    """Whatever prints it."""
    token = read_token("a" * 8 + "s" * 32)
    assert "ssss" not in repr(token)
