"""Finds the Full of a Delta on the targets and proves that it is the one."""
