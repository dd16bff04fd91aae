"""The directory: which address belongs to which account. No mail, no secret of a user."""

from mailstore.directory.embedded import AccountRecord, Alias, Directory, EmbeddedDirectory, Recipient

__all__ = ["AccountRecord", "Alias", "Directory", "EmbeddedDirectory", "Recipient"]
