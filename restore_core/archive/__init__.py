"""Archives: the files on a target. FORMAT.md in this folder is the specification; this package reads and writes it.

    Full   = gzip members, one for each frame of the disk       frames, full_reader
    Delta  = 64 KiB head (sh script + readable header),         delta_writer, delta_reader, header
             then sections: frames, map, pages, segments, ...   index_map, shell_lists, digests

Not guaranteed: that an archive is authentic. Digests bind a Delta to its Full and find every changed bit, but whoever can write
the target can write a consistent pair of both.
"""
