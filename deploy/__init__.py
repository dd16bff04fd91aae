"""Putting it together: configuration, command line, supervisor and workers, LUKS check.

Imports everything; nothing imports it.
"""
