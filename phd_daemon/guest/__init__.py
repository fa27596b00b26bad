"""Reads the files of a guest's file system in a child process, which can do nothing else.

A guest's file systems are hostile input, and C libraries read them. So a child does that: it opens no file and no socket, executes
nothing, has limits on memory and processor time, and is nobody if root started it. It sees one partition, through the parent.

    parent (reader)                      child
    Walk: a path                    →
                                    ←    Read: offset, length           as often as it likes
    Bytes, or an error              →
                                    ←    Found: a file, and its facts
    yes: send it, enter it · no     →
                                    ←    Data, Hole ... Ended
                                    ←    Left: a folder is over
                                    ←    Done, or Failed

dialogue the messages
program  the program of the child
reader   `GuestReader`: starts the child, answers its reads, checks what it says
"""
