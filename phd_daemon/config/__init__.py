"""The settings of one installation, from `/etc/phd/phd.toml`: with one mistake in it the whole file is refused.

    values     the kinds of values and how they are written
    model      the keys, their defaults, and `Config`
    load       reads the file into a `Config`, or raises one error with all problems
    edit       changes one value in the file and keeps its comments
    toml_text  parses TOML files and finds the line of each key

`model` and `load` import pydantic (20 MB, 70 ms): only processes that read the configuration import them, never a worker.
"""
