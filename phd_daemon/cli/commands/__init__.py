"""The commands: each file holds the command of its name, and `phd` lists the files of this folder."""
