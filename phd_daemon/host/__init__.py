"""This host: its catalog of the targets, its datastores, and how its processes are set up and started."""
