"""`make bench`: what the product costs against what others cost, on one machine, in one run.

    image     4 GiB ext4 disk, 42 % used, and the same disk after 2 % of its blocks changed; made once, kept in the work folder
    restore   `phd restore` of a Delta against cp, zcat, qemu-img, borg, casync, restic, bmaptool
    backup    `phd backup` of a Full against pigz, of a Delta against sha256sum
    memory    the peak of a restore, and of planning one for a 1 TiB disk
    latency   a real daemon: from a file renamed into the spool to the first line of its log; what it costs idle
    report    the table, here and in docs/benchmarks.md

Rules: every contender reads from a warm page cache, starts as a new process, and is done when its output is on the disk
(fsync). Rounds are interleaved, so that a busy minute of the machine hits all alike; the best of the rounds counts.
"""
