"""The menus of the console as data: letters, labels, and where each leads. No other module holds a menu.

Letters and their order are those of 2007: (B) status, (C) configuration, (E) restore menu with (C) through the console and (R)
replication. A leaf names a module of phd_daemon.console and a function in it, called with (face, session) and imported only then.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuEntry:
    """One line of a menu: its letter, its text, and the menu or the flow (`module:function`) it leads to."""

    key: str
    label: str
    leads_to: Menu | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """A menu. `help` is what `?` shows."""

    title: str
    entries: tuple[MenuEntry, ...]
    help: str
    proposed: str = ""  # the key of the entry that Enter takes


REPLICATION = Menu(
    title="Replication Action",
    entries=(
        MenuEntry(key="b", label="Manage the Backup Restore Queue", leads_to="status_flow:status"),
        MenuEntry(key="e", label="Edit vmdks.auto", leads_to="rules_flow:edit"),
        MenuEntry(key="f", label="Preload vmdks.auto with all known VMDKs", leads_to="rules_flow:preload"),
        MenuEntry(key="p", label="Preview: what each rule would restore, and how far behind it is", leads_to="rules_flow:preview"),
        MenuEntry(key="n", label="Run a replication pass now, or dry", leads_to="rules_flow:run_pass"),
    ),
    help="""\
Replication restores the newest backups of the VMDKs named in vmdks.auto, again and again, as jobs of the restore queue.
First preload the file: every VMDK on the backup targets gets a line, commented out. Then edit it, and preview what it means.
The same from a shell: phd rules load, phd rules check, phd replicate --dry-run.""",
)

CONSOLE_RESTORE = Menu(
    title="Restore through the Console",
    entries=(
        MenuEntry(key="v", label="Select by Virtual Machine name", leads_to="restore_flow:by_vm"),
        MenuEntry(key="f", label="Select by VMDK name", leads_to="restore_flow:by_vmdk"),
        MenuEntry(key="x", label="Restore a VMX file only", leads_to="vmx_flow:vmx_only"),
    ),
    help="""\
A restore brings back one VMDK: for a VM with four disks choose each of the four. Choose a Delta rather than a Full: every
block of it is checked. Version-2 backups are listed under the name of their host.
The same from a shell: phd backups, then phd restore or phd submit; phd vmx.""",
)

RESTORE = Menu(
    title="Restore Menu",
    entries=(
        MenuEntry(key="c", label="Restore through the console", leads_to=CONSOLE_RESTORE),
        MenuEntry(key="s", label="Create a STUB file", leads_to="stub_flow:stub"),
        MenuEntry(key="r", label="Replication Action", leads_to=REPLICATION),
    ),
    help="""\
Restore VMDK and VMX files from the backup targets, write the STUB (descriptor) that a flat file needs to be used as a VMDK,
or let the newest backups be restored again and again (replication).""",
)

CONFIGURATION = Menu(
    title="Configuration",
    entries=(MenuEntry(key="c", label="Replication / Restore Options", leads_to="options_flow:options"),),
    help="""\
The settings of the restore queue and of replication. They are written into phd.toml, whose comments stay, and a running
daemon takes them up. Targets and datastores are set in that file with an editor.""",
)

MAIN = Menu(
    title="Main Menu",
    proposed="e",
    entries=(
        MenuEntry(key="b", label="Backup Restore Status", leads_to="status_flow:status"),
        MenuEntry(key="c", label="Configuration", leads_to=CONFIGURATION),
        MenuEntry(key="e", label="Restore Menu", leads_to=RESTORE),
    ),
    help="""\
Restores by pressing Enter: (E), then (C), then (V) leads from the name of a virtual machine to its restored disk. (B) shows
the restore queue and its logs. Going back (Esc, on numbered lines 0) ends the console here. Whatever is done here, a phd
command does too: phd --help lists them.""",
)
