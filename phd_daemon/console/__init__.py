"""The console: restores by pressing Enter.

    opening > menus                   the face for this terminal; the walk through the menus, errors shown on the way
    tree                              the menus as data: letters, labels, where each leads
    restore_flow                      choose_backup > check_backup > choose_full > choose_place > start_restore
    vmx_flow, stub_flow               the small jobs beside it
    status_flow, options_flow, rules_flow
    holdings, places                  what the targets hold, and where a disk may go: rows out of facts
    face                              the contract between a flow and whoever draws it
    numbered_face (numbered_list, watched), screen    the two faces: numbered lines for any terminal, Textual for a good one

A flow never prints and never reads a key; a face never knows what it is asking about. The console does nothing that the
commands could not do.
"""
