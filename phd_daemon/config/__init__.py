"""The settings of one installation: `/etc/phd/phd.toml`, read whole or not at all.

    values     the kinds of values and how they are written
    model      the keys, their defaults, and `Config`
    load       file -> Config, or one error with every problem in it
    edit       one value changed in the file, its comments kept
    toml_text  the lines of a TOML file, for whoever reads one

`model` and `load` import pydantic (20 MB, 70 ms): only processes that read the configuration import them, never a worker.
"""
