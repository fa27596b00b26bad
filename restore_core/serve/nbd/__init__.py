"""Disks for other programs, over NBD (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md): read-only.

    messages       numbers and layouts of the protocol
    handshake      options, up to the choice of an export (pure)
    transmission   requests and replies (pure)
    byte_stream    bytes of one client, plain or in TLS
    in_flight      how much all clients together may have asked for
    client         one client: a thread that reads its requests, one that writes the replies
    listener       the sockets, and who is let in
    export_reader  the other side: a client that reads one export
    own_socket     the Unix socket: its folder, its mode, one server on it

What a client sends is hostile input: sizes are checked before they are used, and a client that breaks the protocol is closed.
"""
