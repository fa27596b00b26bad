"""Targets on an FTP server."""
