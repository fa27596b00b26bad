"""Where a disk lies and what describes it.

    destination       the place where a disk is written: an open folder, and the names in it
    confinement       from a path to an open folder, within the datastores
    datastore, known_datastores   which disk a datastore is, and the record of it
    hold              the lock of a disk that is being written
    alone, locks      who else has a disk open or locked
    allocation, sink  room for a disk, and how blocks are written
    scan              reading a disk
    identity          which file a name means, and whether it was changed
    vmdk, vmx         the descriptor of a flat disk, and the configuration of a VM

Only flat disks are known: one descriptor, one file of plain bytes. Sparse, split and snapshot disks and raw device mappings are
recognised and refused by name, never read and never replaced. Not guaranteed: locks of a running ESX host are seen only
where they leave files that this host can list.
"""
