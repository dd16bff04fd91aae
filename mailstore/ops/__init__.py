"""All SQL. Synchronous functions that take a transaction and return plain values."""
