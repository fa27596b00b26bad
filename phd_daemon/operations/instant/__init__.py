"""Instant sessions: a guest runs from its backup at once, the ordinary restore makes its disk meanwhile, and what it wrote is kept.

    session_start   overlay, record, server, job            session_finish   the guest is off: what it wrote is copied into the disk
    session_seen    what is seen of a session now           session_proof    that a session may be finished
    session_discard throws away what the guest wrote

    session_disks   the holds of all disks of a session     session_server   starts, asks and stops the server
    qemu_img        the one module that runs qemu-img       nbd_probe        asks a server for one block

docs/instant.md says what lies where in every state, and what a crash leaves.
"""
