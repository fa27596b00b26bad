"""What runs inside the booted machine of R24: the probe, under the unit's own settings, and the witness beside it."""
