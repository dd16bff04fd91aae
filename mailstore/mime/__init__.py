"""MIME as IMAP needs it: bytes in, part tree with offsets out. Pure, never fails."""

from mailstore.mime.address import Address, addresses
from mailstore.mime.content import parameter
from mailstore.mime.envelope import MessageIds, envelope, message_ids
from mailstore.mime.headers import HeaderField, collect, field_pattern, fields, header_fields, unfold
from mailstore.mime.html import html_to_text
from mailstore.mime.kept_fields import KEPT_FIELDS, KeptChoice, KeptFields, kept_choice, kept_fields
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.part import Content, Disposition, Parameters, Part
from mailstore.mime.preview import preview
from mailstore.mime.scanner import scan
from mailstore.mime.section import HeaderFilter, SectionKind, SectionSpec, Span, find_part, resolve
from mailstore.mime.sortkeys import SortKeys, base_subject, sent_date, sort_keys
from mailstore.mime.stored import PartTreeDamaged, dump, load
from mailstore.mime.structure import body, bodystructure
from mailstore.mime.text import (
    charset,
    decode_body,
    decode_words,
    encoded_bytes,
    filename,
    is_text,
    part_text,
    text_pieces,
)

__all__ = [
    "DEFAULT_LIMITS",
    "KEPT_FIELDS",
    "Address",
    "Content",
    "Disposition",
    "HeaderField",
    "HeaderFilter",
    "KeptChoice",
    "KeptFields",
    "MessageIds",
    "MimeLimits",
    "Parameters",
    "Part",
    "PartTreeDamaged",
    "SectionKind",
    "SectionSpec",
    "SortKeys",
    "Span",
    "addresses",
    "base_subject",
    "body",
    "bodystructure",
    "charset",
    "collect",
    "decode_body",
    "decode_words",
    "dump",
    "encoded_bytes",
    "envelope",
    "field_pattern",
    "fields",
    "filename",
    "find_part",
    "header_fields",
    "html_to_text",
    "is_text",
    "kept_choice",
    "kept_fields",
    "load",
    "message_ids",
    "parameter",
    "part_text",
    "preview",
    "resolve",
    "scan",
    "sent_date",
    "sort_keys",
    "text_pieces",
    "unfold",
]
