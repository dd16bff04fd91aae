"""How pages survive: snapshots that need no account key. Planned; see ARCHITECTURE.md.

Imports ``mailstore`` at most, never ``protocols``.
"""
