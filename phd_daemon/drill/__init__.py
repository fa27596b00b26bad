"""Test restores: a VM is checked and booted out of its backup, on a throw-away overlay, and a verdict is kept.

    choice      which VM, if it is left to chance (pure)
    hardware    what machine its VMX asks for (pure)
    disk_server `phd serve` as a child: the only thing that reads archives
    disk_check  partitions of a served disk, and the checkers of their file systems
    boot        the VM under QEMU, watched until it proves that it is up
    verdict     what the steps together mean (pure)
    kept_drills the folder of the drills: lock, work, what is kept

Every program is started through `launch`: it dies with the drill, has limits, and is confined where it reads what guests wrote.
A drill never touches a job, a destination or a session. Two do not run at once on one `state_dir`.
"""
