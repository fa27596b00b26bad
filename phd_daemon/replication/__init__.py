"""A replication pass: when it runs, what it finds and queues, its record, and the rules file."""
