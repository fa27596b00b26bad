"""The console: restores by pressing Enter.

    opening > menus                   chooses the face for this terminal; holds and shows the menus, and the errors of a flow
    steps                             a flow as a list of steps with back and forth
    restore_flow, vmx_flow, stub_flow, status_flow, options_flow, rules_flow
    choose_backup, choose_place       steps that flows share
    face                              the contract between a flow and a face
    numbered_face (numbered_list, watched), screen    the two faces: numbered lines for any terminal, Textual for a good one

A flow never prints and never reads a key; a face never knows what it asks about. The console does nothing that the commands
could not do.
"""
