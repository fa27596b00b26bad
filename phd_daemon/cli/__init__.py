"""The command line: one file a command, loaded only when it is asked for. Exit codes are decided in `main` alone."""
