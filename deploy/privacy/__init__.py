"""What ``sealbox privacy check`` looks at: a running server and its data root, promise by promise.

Every check is a function from facts to a :class:`~deploy.privacy.finding.Finding`; ``checks.py`` lists them.
What a rule means is known by the room that it belongs to (``protocols.log_age``, ``backup.overdue`` ...).
"""
