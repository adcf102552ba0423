"""Engine hosts `torch` and `tensorrt`: child processes that hold weights and run steps.

In: frames on stdin (docs/develop/host-protocol.md), delta files, checkpoints. Out: frames on stdout; the log goes to stderr.
Never: decide what the weights should be (the plan says so), open a socket, read a pickle, or touch the UI's packages.
"""

__version__ = "0.1.0"
