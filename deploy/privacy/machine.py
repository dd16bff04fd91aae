"""Checks of the volume and of swap: what is written to a disk has to arrive there encrypted."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.privacy.finding import Check, Finding, listed

_VOLUME = Check("LUKS", (4,))
_SWAP = Check("swap", (1, 4))


def volume(on_luks: bool) -> Finding:
    """The data root lies on LUKS, whatever the operator has allowed."""
    if not on_luks:
        return _VOLUME.broken(
            "the data root does not lie on a LUKS volume",
            "move it to one and take allow_unencrypted_volume out of the configuration",
        )
    return _VOLUME.holds("the data root lies on a LUKS volume")


def swap(plain: Sequence[str]) -> Finding:
    """There is no swap, or it is encrypted."""
    if plain:
        return _SWAP.broken(
            f"swap that is not encrypted: {listed(plain)}",
            "switch it off (swapoff -a, /etc/fstab) or put it on dm-crypt",
        )
    return _SWAP.holds("there is none, or it is encrypted")
