"""A look at several servers: two nodes, PostgreSQL and a bucket on this machine, and nothing left of them."""
