"""What a login for an unknown account works on, so that it costs what a real one does: it opens nothing."""

import os

from mailstore.keys.header import Header, encode_header
from mailstore.keys.hierarchy import MASTER_KEY_BYTES, NONCE_BYTES, SALT_BYTES, TAG_BYTES, AccountId
from mailstore.keys.pair import PRIVATE_KEY_BYTES, PUBLIC_KEY_BYTES, PublicKey, WrappedKey
from mailstore.keys.printed import SlotId, SlotKind
from mailstore.keys.slots import Argon2Params, Keyslot, Scope
from mailstore.model import ScramSetup

NOBODY = AccountId("0" * 32)
"""The account id in a decoy; no account has it."""


def decoy_slot(params: Argon2Params) -> Keyslot:
    """A keyslot that no secret opens; trying costs what ``params`` say."""
    return Keyslot(
        id=SlotId("0" * 8),
        kind=SlotKind.PASSWORD,
        label="",
        created=0,
        scope=Scope(),
        params=params,
        salt=os.urandom(SALT_BYTES),
        nonce=os.urandom(NONCE_BYTES),
        wrapped=os.urandom(MASTER_KEY_BYTES + TAG_BYTES),
    )


def decoy_header() -> bytes:
    """The bytes of a file ``keys`` that nothing authenticates: the key that sealed it is forgotten."""
    random = os.urandom
    header = Header(
        account_id=NOBODY,
        generation=1,
        public_key=PublicKey(random(PUBLIC_KEY_BYTES)),
        private_key=WrappedKey(random(NONCE_BYTES), random(PRIVATE_KEY_BYTES + TAG_BYTES)),
        scram=ScramSetup(random(SALT_BYTES)),
        slots=(decoy_slot(Argon2Params()),),
    )
    return encode_header(header, random(MASTER_KEY_BYTES))
