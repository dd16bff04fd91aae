"""The HTTPS door: set-up documents for mail programs, and the pages behind invitations. Nothing else."""
