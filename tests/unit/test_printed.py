"""App passwords and recovery keys as people type them."""

import re

import pytest
from keys_world import fixed_random

from mailstore.keys import (
    SlotId,
    SlotKind,
    Typo,
    meant_as_recovery_key,
    new_app_password,
    new_recovery_key,
    recovery_key_typo,
)
from mailstore.keys.printed import read_printed

SLOT = SlotId("k7qm2x9a")
APP = new_app_password(SLOT, fixed_random("app"))
RECOVERY = new_recovery_key(SLOT, fixed_random("recovery"))


def test_shape():
    """Lower-case groups of four; the public id comes first."""
    assert re.fullmatch(r"k7qm-2x9a(-[0-9a-hjkmnp-tv-z]{4}){5}", APP.text())
    assert re.fullmatch(r"sbrk-k7qm-2x9a(-[0-9a-hjkmnp-tv-z]{4}){9}", RECOVERY.text())


@pytest.mark.parametrize("printed", [APP, RECOVERY], ids=["app", "recovery"])
def test_forgiving_reading(printed):
    """With and without dashes, any case, spaces, look-alikes."""
    text = printed.text()
    spellings = [
        text,
        text.upper(),
        text.replace("-", ""),
        text.replace("-", " "),
        f"  {text}\n",
        text.replace("1", "l").replace("0", "o"),
        text.replace("1", "I").replace("0", "O"),
    ]
    assert [read_printed(spelling) for spelling in spellings] == [printed] * len(spellings)
    assert read_printed(text).slot_id == SLOT


@pytest.mark.parametrize(
    "text", ["", "-", "hello", APP.text()[:-1], APP.text() + "0", "u" * 28, "é" * 28, "0" * 10**6]
)
def test_other_text_is_not_generated(text):
    """Other lengths and characters are no generated secret."""
    assert read_printed(text) is None


def test_each_single_typo_is_noticed():
    """Replacing any one character of a recovery key, or swapping neighbours, is reported."""
    canonical = RECOVERY.canonical
    for at in range(len(canonical)):
        wrong = "7" if canonical[at] != "7" else "8"
        typed = canonical[:at] + wrong + canonical[at + 1 :]
        assert recovery_key_typo(typed) is Typo.CHECKSUM
        assert read_printed(typed) is None


@pytest.mark.parametrize(
    ("text", "typo"),
    [
        (RECOVERY.text(), None),
        (RECOVERY.text()[:-1], Typo.LENGTH),
        (RECOVERY.text() + "0", Typo.LENGTH),
        (RECOVERY.text()[:-1] + "!", Typo.CHARACTER),
        (RECOVERY.text()[:-1] + "u", Typo.CHARACTER),
        ("x" * 10**6, Typo.LENGTH),
    ],
)
def test_kinds_of_typo(text, typo):
    """What the command line tells about a recovery key."""
    assert recovery_key_typo(text) is typo


def test_meant_as_recovery_key():
    """Only text that begins like one is reported as a mistyped one."""
    assert meant_as_recovery_key("SBRK-k7qm")
    assert not meant_as_recovery_key("my password")
    assert not meant_as_recovery_key("sbrk" * 10**6)


def test_kinds():
    """The two forms are told apart."""
    assert (APP.kind, RECOVERY.kind) == (SlotKind.APP_PASSWORD, SlotKind.RECOVERY_KEY)
