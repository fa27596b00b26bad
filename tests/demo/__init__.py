"""`make demo`: the main job for real, in a folder of its own, shown as a person would type it.

    a VM with a real file system -> Full + empty Delta -> the disk changes -> Delta
    -> daemon on a spool -> a control file is dropped -> the log as it runs -> is it the same disk?

`machine` makes the VM and changes it, `shell` shows and runs commands, `__main__` tells the story.
"""
