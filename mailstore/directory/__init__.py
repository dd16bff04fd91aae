"""The directory: which address belongs to which account. No mail, no secret of a user.

``interface`` is what the program asks; ``embedded`` keeps it in one SQLCipher file of the data root,
``postgresql`` in a database that several nodes share, and ``places`` says which one a data root has. Another
implementation comes beside them, and has to pass tests/unit/test_directory.py. ``exchange`` carries one into
another.
"""

from mailstore.directory.doors import door_for, doors_value
from mailstore.directory.exchange import lines_of, read_lines
from mailstore.directory.interface import (
    NO_QUOTA,
    AccountRecord,
    Alias,
    Contents,
    Directory,
    DomainLimits,
    Doors,
    Node,
    NodeLease,
    Recipient,
)
from mailstore.directory.moves import (
    Due,
    Move,
    MoveId,
    Moves,
    Phase,
    Seen,
    Side,
    Trouble,
    View,
    moves_of,
    source_due,
    target_due,
)
from mailstore.directory.nodes import call_node, given_to_this, is_elsewhere, is_node_name, node_name
from mailstore.directory.places import (
    PostgresPlace,
    directory_exists,
    directory_of,
    directory_place,
    has_driver,
    has_stale_directory,
    is_under_servers_key,
    lease_of_directory,
    make_directory,
    put_directory,
    rekeying_of_directory,
    write_cluster_key,
)

__all__ = [
    "NO_QUOTA",
    "AccountRecord",
    "Alias",
    "Contents",
    "Directory",
    "DomainLimits",
    "Doors",
    "Due",
    "Move",
    "MoveId",
    "Moves",
    "Node",
    "NodeLease",
    "Phase",
    "PostgresPlace",
    "Recipient",
    "Seen",
    "Side",
    "Trouble",
    "View",
    "call_node",
    "directory_exists",
    "directory_of",
    "directory_place",
    "door_for",
    "doors_value",
    "given_to_this",
    "has_driver",
    "has_stale_directory",
    "is_elsewhere",
    "is_node_name",
    "is_under_servers_key",
    "lease_of_directory",
    "lines_of",
    "make_directory",
    "moves_of",
    "node_name",
    "put_directory",
    "read_lines",
    "rekeying_of_directory",
    "source_due",
    "target_due",
    "write_cluster_key",
]
