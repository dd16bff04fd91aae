"""Find the parts of a message: bytes in, tree of offsets out (RFC 2046 section 5.1).

Any bytes are a message. The time is linear in its length: each open multipart looks for its
boundary with ``bytes.find`` in the stretch that no outer boundary has cut off yet, so a byte is
read at most once for each level of nesting, and large bodies are crossed at memory speed.
"""

from mailstore.mime.content import DIGEST_MESSAGE, PLAIN_TEXT, boundary, parse_content
from mailstore.mime.headers import header_end
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.part import Content, Part

_CARRIAGE_RETURN = 0x0D


class _Frame:
    """A part whose end is not known yet."""

    __slots__ = ("body_start", "children", "content", "found", "header_start", "needle", "searched")

    def __init__(self, header_start: int, body_start: int, content: Content) -> None:
        self.header_start = header_start
        self.body_start = body_start
        self.content = content
        self.needle: bytes | None = None
        self.searched = body_start - 1
        self.found = False
        self.children: list[Part] = []


class _Scanner:
    """The stack of open parts while one message is read from front to back."""

    __slots__ = ("count", "data", "frames", "limits")

    def __init__(self, data: bytes, limits: MimeLimits) -> None:
        self.data = data
        self.limits = limits
        self.frames: list[_Frame] = []
        self.count = 0

    def scan(self) -> Part:
        data = self.data
        self._open(0, PLAIN_TEXT)
        position = self.frames[-1].body_start - 1
        # The last part allowed swallows the rest, other boundaries included.
        while self.count < self.limits.max_parts:
            at, level = self._next_boundary(max(position, 0))
            if level < 0:
                break
            end = at - 1 if at and data[at - 1] == _CARRIAGE_RETURN else at
            while len(self.frames) - 1 > level:
                self._close(end)
            frame = self.frames[level]
            after = at + len(frame.needle or b"")
            line_end = data.find(b"\n", after)
            if line_end < 0:
                break
            if data.startswith(b"--", after):
                frame.needle = None
                position = line_end
                continue
            digest = frame.content.subtype == b"digest"
            self._open(line_end + 1, DIGEST_MESSAGE if digest else PLAIN_TEXT)
            position = self.frames[-1].body_start - 1
        while len(self.frames) > 1:
            self._close(len(data))
        return self._part(self.frames[0], len(data))

    def _next_boundary(self, position: int) -> tuple[int, int]:
        """The line feed before the next delimiter line from ``position`` on, and whose it is.

        A delimiter needs to match the beginning of its line only (RFC 2046 section 5.1.1). Where
        one boundary is the beginning of another the longer one is meant; the innermost wins a tie.
        Returns level -1 if there is none.
        """
        data = self.data
        limit, level, longest = len(data), -1, 0
        for index, frame in enumerate(self.frames):
            needle = frame.needle
            if needle is None:
                continue
            size = len(needle)
            if frame.searched < position or (not frame.found and frame.searched <= limit):
                # Beyond the next outer delimiter this part does not exist: do not look there.
                at = data.find(needle, max(position, frame.searched), limit + size)
                frame.found = at >= 0
                frame.searched = at if at >= 0 else limit + 1
            if frame.found and (frame.searched < limit or (frame.searched == limit and size >= longest)):
                limit, level, longest = frame.searched, index, size
        return limit, level

    def _open(self, start: int, default: Content) -> None:
        """Read the header at ``start`` and put the part on the stack; then the message it holds."""
        data, limits = self.data, self.limits
        while True:
            at, level = self._next_boundary(max(start - 1, 0))
            body_start = header_end(data, start, len(data) if level < 0 else at + 1)
            parsed_to = min(body_start, start + limits.max_header_bytes)
            content = parse_content(data[start:parsed_to], default, limits)
            self.count += 1
            full = self.count >= limits.max_parts or len(self.frames) + 1 >= limits.max_depth
            if full and (content.is_multipart or content.is_message):
                content = Content(b"application", b"octet-stream", encoding=content.encoding)
            frame = _Frame(start, body_start, content)
            self.frames.append(frame)
            if content.is_multipart:
                frame.needle = b"\n--" + (boundary(content.params) or b"")
                return
            if not content.is_message:
                return
            start, default = body_start, PLAIN_TEXT

    def _close(self, end: int) -> None:
        part = self._part(self.frames.pop(), end)
        self.frames[-1].children.append(part)

    def _part(self, frame: _Frame, end: int) -> Part:
        content, body_start = frame.content, frame.body_start
        # A delimiter right after a header: the line end is the header's already, and what is around
        # that header reaches as far.
        end = max(end, body_start, frame.children[-1].body_end if frame.children else 0)
        lines = 0
        if content.type == b"text" or content.is_message:
            lines = self.data.count(b"\n", body_start, end)
        children = tuple(frame.children)
        if content.is_message:
            return Part(frame.header_start, body_start, end, content, lines, (), children[0])
        return Part(frame.header_start, body_start, end, content, lines, children)


def scan(data: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> Part:
    """The part tree of the message ``data``. Never raises, whatever the bytes are.

    Delimiter lines may end in LF or CRLF; a missing closing delimiter and an outer delimiter end a
    part as well; preamble and epilogue belong to the multipart but to none of its parts. Beyond
    ``max_depth`` a multipart or message is an application/octet-stream leaf; the part at which
    ``max_parts`` is reached extends to the end of the message.
    """
    return _Scanner(data, limits).scan()
