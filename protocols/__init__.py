"""What is said on the wire: IMAP, POP3 and LMTP, and what they share."""
