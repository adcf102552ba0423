"""Engines of this process and the methods on them. In: checked calls. Out: answers. Never: how a family's model is built."""
