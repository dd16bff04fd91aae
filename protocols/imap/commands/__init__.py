"""What is done: one handler for each request, and what several of them need. Knows all other wings."""
