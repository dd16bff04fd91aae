"""The keys of an account: everything that turns a secret into a master key, and nothing else.

Read in this order: ``hierarchy`` (what is derived from a master key), ``printed`` (secrets that the program
makes), ``slots`` (the master key wrapped under a secret), ``scram`` (a second way into a slot), ``pair`` (the
key pair for arriving mail), ``header`` (the file that holds all of it, and what authenticates it), ``decoy``
(what an unknown name gets instead), ``invitation`` (the master key in a link that works once), ``hardening``
(keys in memory). FORMAT.md, sections 1 to 5 and 14, is the specification. The rest of the program takes from
here what is listed below, and nothing from the files.
"""

from mailstore.keys.decoy import (
    NOBODY,
    decoy_header,
    decoy_slot,
)
from mailstore.keys.hardening import (
    lock_in_memory,
    process_hardening,
    wipe,
)
from mailstore.keys.header import (
    KEYS_FILE,
    KEYS_LOCK,
    Expected,
    Header,
    HeaderLimits,
    SignedHeader,
    authenticate,
    check_header,
    decode_header,
    read_header,
    write_header,
)
from mailstore.keys.hierarchy import (
    MASTER_KEY_BYTES,
    AccountId,
    KeyLabel,
    RandomBytes,
    derive,
    new_master,
)
from mailstore.keys.invitation import (
    INVITATION_FILE_BYTES,
    Invitation,
    InvitationFacts,
    Token,
    decode_invitation,
    encode_invitation,
    make_invitation,
    open_invitation,
    read_token,
)
from mailstore.keys.pair import (
    PRIVATE_KEY_BYTES,
    PrivateKey,
    PublicKey,
    load_private_key,
    load_public_key,
    new_private_key,
    wrap_private_key,
)
from mailstore.keys.printed import (
    Printed,
    SlotId,
    SlotKind,
    Typo,
    meant_as_recovery_key,
    new_app_password,
    new_recovery_key,
    random_characters,
    recovery_key_typo,
)
from mailstore.keys.scram import (
    dummy_scram_setup,
    make_scram_wrap,
    new_scram_setup,
    open_scram_wrap,
)
from mailstore.keys.slots import (
    MAX_SECRET_BYTES,
    Argon2,
    Argon2Params,
    Keyslot,
    Scope,
    SlotFacts,
    argon2id,
    choose_slot,
    make_slot,
    new_slot_id,
    open_slot,
    parse_secret,
)

__all__ = [
    "INVITATION_FILE_BYTES",
    "KEYS_FILE",
    "KEYS_LOCK",
    "MASTER_KEY_BYTES",
    "MAX_SECRET_BYTES",
    "NOBODY",
    "PRIVATE_KEY_BYTES",
    "AccountId",
    "Argon2",
    "Argon2Params",
    "Expected",
    "Header",
    "HeaderLimits",
    "Invitation",
    "InvitationFacts",
    "KeyLabel",
    "Keyslot",
    "Printed",
    "PrivateKey",
    "PublicKey",
    "RandomBytes",
    "Scope",
    "SignedHeader",
    "SlotFacts",
    "SlotId",
    "SlotKind",
    "Token",
    "Typo",
    "argon2id",
    "authenticate",
    "check_header",
    "choose_slot",
    "decode_header",
    "decode_invitation",
    "decoy_header",
    "decoy_slot",
    "derive",
    "dummy_scram_setup",
    "encode_invitation",
    "load_private_key",
    "load_public_key",
    "lock_in_memory",
    "make_invitation",
    "make_scram_wrap",
    "make_slot",
    "meant_as_recovery_key",
    "new_app_password",
    "new_master",
    "new_private_key",
    "new_recovery_key",
    "new_scram_setup",
    "new_slot_id",
    "open_invitation",
    "open_scram_wrap",
    "open_slot",
    "parse_secret",
    "process_hardening",
    "random_characters",
    "read_header",
    "read_token",
    "recovery_key_typo",
    "wipe",
    "wrap_private_key",
    "write_header",
]
