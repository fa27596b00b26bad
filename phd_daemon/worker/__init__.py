"""One attempt of one job, in a child process: its work order, its run, its report, its confinement."""
