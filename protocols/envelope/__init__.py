"""What LMTP and SMTP share: MAIL, RCPT, DATA, replies, trace header (RFC 5321); knows neither protocol."""
