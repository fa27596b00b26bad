"""What this host is and knows: its catalog of the targets, its datastores, its settings of process and locale."""
