"""The service: takes in what the spool holds, starts workers, ends them, and tells systemd."""
