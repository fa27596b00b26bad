"""Planted bugs: each function replaces one thing of the program, in this process. Only tests/proof/planted calls them."""
