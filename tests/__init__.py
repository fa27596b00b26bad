"""The proofs. Folders mirror the packages; bench, demo and proof have make targets of their own."""
