"""Disks served straight from their archives: any byte of the disk of a Delta, verified before it is handed out.

    open_served_disk(request, targets, ...) -> ServedDisk      size, read(offset, length), extents, close

    block_map      where each block comes from, out of the index map
    full_copies    the copies of the Full: one is read, the others stand in for a block that is bad in it
    unit_source    fetch > decode > verify, one frame of the Full or one block of the Delta at a time
    frame_cache    decoded frames, bounded in bytes; each is decoded once for all who wait for it
    read_order     what was read after what in an earlier run, fetched ahead
    disk           `ServedDisk`: all of them together
    nbd/           the disk for other programs: NBD on a socket
    partitions     MBR, GPT, and LVM (`lvm`): the disk cut into p1 ... pN, and what each of them holds (`magic_bytes`)
    file_systems   the files in a partition; imported only by the confined child of `phd_daemon/guest`
    taken          the files that were taken out, written into a folder of this host

Read-only, and without any state on disk: a server may be killed and started again at any time.
"""
