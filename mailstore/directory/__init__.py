"""The directory: which address belongs to which account. No mail, no secret of a user.

``interface`` is what the program asks; ``embedded`` keeps it in one SQLCipher file of the data root. Another
implementation comes beside it, and has to pass tests/unit/test_directory.py.
"""

from mailstore.directory.embedded import embedded_directory, has_embedded_directory
from mailstore.directory.interface import AccountRecord, Alias, Directory, Recipient

__all__ = ["AccountRecord", "Alias", "Directory", "Recipient", "embedded_directory", "has_embedded_directory"]
