"""The long proofs: `make proof`."""
