"""Targets on an SSH server."""
