"""Bounds on what is parsed of a message. A message may exceed any of them: it is still a message.

Beyond a bound the bytes are kept and served, but described more coarsely.
"""

from dataclasses import dataclass

_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class MimeLimits:
    """How far the structure of one message is followed; counts are per message unless stated.

    ``max_depth``: levels of multipart and message parts inside each other, 1 to 100 (comparing and
    rendering a tree recurse once per level).
    ``max_parts``: parts of one message; the last one swallows the rest.
    ``max_header_bytes``: how much of each part's header is parsed, in bytes.
    ``max_header_fields``: how many fields of interest are looked at in each header.
    ``max_parameters``: parameters of one Content-Type or Content-Disposition field.
    ``max_addresses``: entries of one address list, group markers included.
    ``max_references``: message ids of one References field; the first and the last are kept.
    ``max_sort_key_chars``: characters of each sort key.
    ``max_kept_fields_bytes``: fields of a header that are kept ready to send, with their names, in bytes.
    ``max_text_bytes``: how much of one decoded text part is turned into text, in bytes.

    Raises ValueError if ``max_depth`` is out of range or ``max_parts`` is below 1.
    """

    max_depth: int = 50
    max_parts: int = 10_000
    max_header_bytes: int = 1 << 20
    max_header_fields: int = 10_000
    max_parameters: int = 256
    max_addresses: int = 100_000
    max_references: int = 200
    max_sort_key_chars: int = 1_000
    max_kept_fields_bytes: int = 8 << 10
    max_text_bytes: int = 8 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= _DEEPEST or self.max_parts < 1:
            raise ValueError("max_depth must be 1 to 100 and max_parts at least 1")


DEFAULT_LIMITS = MimeLimits()
