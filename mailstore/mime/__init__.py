"""MIME as IMAP needs it: bytes in, part tree with offsets out. Pure, never fails."""
