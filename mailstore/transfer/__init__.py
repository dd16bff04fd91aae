"""Moving in and out: mail of other servers and programs into an account, an account's mail out of it.

Read ``source`` and ``target`` first: what a format has to offer, and to take.
Everything blocks; for commands.
"""
