"""What is in the pages of a database file, free ones included."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PAGE = 4096


def decrypted_pages(path: Path, key: bytes) -> bytes:
    """All pages of an SQLCipher file with a raw key, decrypted."""
    data, text = path.read_bytes(), b""
    for at in range(0, len(data), PAGE):
        # The first page begins with the salt; behind the text of each are 16 bytes of IV and 32 of HMAC.
        start, end = at or 16, at + PAGE - 48
        decryptor = Cipher(algorithms.AES(key), modes.CBC(data[end : end + 16])).decryptor()
        text += decryptor.update(data[start:end])
    return text
