"""Section specifications: which bytes of a message a BODY[...] fetch means (RFC 3501 section 6.4.5)."""

from dataclasses import dataclass
from enum import Enum

from mailstore.mime.part import Content, Part


class SectionKind(Enum):
    """The section text of a specification; WHOLE is a specification without one."""

    WHOLE = "whole"
    HEADER = "header"
    HEADER_FIELDS = "header.fields"
    HEADER_FIELDS_NOT = "header.fields.not"
    TEXT = "text"
    MIME = "mime"


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """What stands between the brackets: part numbers from 1, section text, header field names."""

    part: tuple[int, ...] = ()
    kind: SectionKind = SectionKind.WHOLE
    fields: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes ``[start, end)`` of the message."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class HeaderFilter:
    """The header block in ``span``, to be passed through ``header_fields`` with these arguments."""

    span: Span
    fields: tuple[bytes, ...]
    invert: bool


def _step(node: Part, is_message: bool, number: int) -> tuple[Part, bool] | None:
    """The part ``number`` inside ``node``; ``is_message`` says that ``node`` is taken as a message."""
    if not is_message and node.message is not None:
        node, is_message = node.message, True
    if node.content.is_multipart:
        if 1 <= number <= len(node.children):
            return node.children[number - 1], False
        if number == 1:
            # BODYSTRUCTURE shows an empty text part in a multipart without parts.
            return Part(node.body_end, node.body_end, node.body_end, Content()), False
        return None
    return (node, False) if is_message and number == 1 else None


def find_part(root: Part, numbers: tuple[int, ...]) -> Part | None:
    """The part with these part numbers, None if there is none; ``()`` is the message itself."""
    node, is_message = root, True
    for number in numbers:
        found = _step(node, is_message, number)
        if found is None:
            return None
        node, is_message = found
    return node


def resolve(root: Part, spec: SectionSpec) -> Span | HeaderFilter | None:
    """The bytes that ``spec`` means in the message ``root``, None if it has no such section.

    HEADER, HEADER.FIELDS and TEXT need part numbers that lead to a message/rfc822 part, or none at
    all; MIME needs part numbers.
    """
    node = find_part(root, spec.part)
    if node is None:
        return None
    message = node.message if spec.part else root
    match spec.kind:
        case SectionKind.WHOLE:
            return Span(node.body_start if spec.part else node.header_start, node.body_end)
        case SectionKind.MIME:
            return Span(node.header_start, node.body_start) if spec.part else None
        case _ if message is None:
            return None
        case SectionKind.TEXT:
            return Span(message.body_start, message.body_end)
        case SectionKind.HEADER:
            return Span(message.header_start, message.body_start)
        case SectionKind.HEADER_FIELDS | SectionKind.HEADER_FIELDS_NOT:
            span = Span(message.header_start, message.body_start)
            return HeaderFilter(span, spec.fields, spec.kind is SectionKind.HEADER_FIELDS_NOT)
