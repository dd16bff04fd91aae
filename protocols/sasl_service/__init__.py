"""Dovecot's authentication protocol, version 1.1: by it Postfix and Exim have passwords checked."""
