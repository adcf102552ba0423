"""Memory of this host's device that clients on this computer open too (docs/develop/internals.md, "Device segments")."""
