"""What a client asks for: octets in, requests out. Pure; knows no other wing."""
