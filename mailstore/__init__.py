"""What a mailbox is: accounts, keys, the per-account database, MIME, the sealed inbox.

Knows no wire syntax and no backup; imports nothing from ``protocols``, ``backup`` or ``deploy``.
"""
