"""Postfix's socketmap protocol (socketmap_table(5)): by it a mail server asks at RCPT who gets mail here."""
