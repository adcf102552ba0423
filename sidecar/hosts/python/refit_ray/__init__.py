"""The gateway to a Ray cluster: one child of the sidecar that starts engine hosts in Ray actors and carries the host protocol to and from them.

In: pieces of many channels on stdin. Out: pieces on stdout; the log goes to stderr.
Never: decide which engine runs where, look into a step, answer for a host whose actor it has lost, or do what Ray does (restarts, health, autoscaling).
"""
