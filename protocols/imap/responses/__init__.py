"""What is said to a client: values in, octets out. Pure; of the other wings it knows the grammar."""
