"""The door: one local address that serves every model of every pod, over SSH."""
