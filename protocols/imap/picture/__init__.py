"""What a client has been told, and has yet to be told. Pure; it knows the grammar and the responses."""
