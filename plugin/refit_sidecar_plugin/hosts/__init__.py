"""One folder per user interface. Only here may a UI's own modules be imported; a host never imports another."""
