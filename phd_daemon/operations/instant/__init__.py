"""Instant sessions: a guest runs from its backup at once, the ordinary restore makes its disk meanwhile, and what it wrote is kept.

    session_start   overlay, record, server, job            session_finish   the guest is off: what it wrote is copied into the disk
    session_seen    what is seen of a session now           session_live     the same while the guest runs
                                                            session_settle   which file is right when QEMU died in between
    session_discard throws away what the guest wrote

    session_disks   the holds of all disks of a session     session_server   starts, asks and stops the server
    session_proof   that a session may be finished          qemu_nodes       finds its disks in a running QEMU
    qemu_img        the one module that runs qemu-img       guest_monitor    its monitor (QMP)
    nbd_probe       asks a server for one block

docs/instant.md says what lies where in every state, and what a crash leaves.
"""
