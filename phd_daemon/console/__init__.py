"""The console: restores by pressing Enter.

    tree.py  the menus as data: letters, labels, where each leads
    flows    what happens on the way: plain functions that ask a Face and call what the `phd` commands call
    face.py  the contract between a flow and whoever draws it
    plain.py, screen/   the two faces: numbered lines for any terminal, Textual for a good one

A flow never prints and never reads a key; a face never knows what it is asking about. The console does nothing that the
commands could not do.
"""
