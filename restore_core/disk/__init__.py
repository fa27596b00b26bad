"""Where a disk lies and what describes it.

    vmdk         the text descriptor of a flat disk: read, judged flat or not, written
    vmx          a VM's configuration: its name, its UUID, its disks
    confinement  from a path to an open folder, within the datastores
    destination  the place a disk is written, held by an open folder
    locks        who holds a disk file at this moment
    allocation   room for a disk: free space, the part file, zeros

Only flat disks are known: one descriptor, one file of plain bytes. Sparse, split and snapshot disks and raw device
mappings are recognised, named and refused, never read and never replaced. What is not guaranteed: locks of a running
ESX host are seen only where they leave files that this host can list.
"""
