"""What every server needs, whatever it speaks: pool of connections, retry, pace, deadlines, secrets, trust."""
