"""The host protocol. In: frames. Out: calls of checked messages, replies. Never: engine state."""
