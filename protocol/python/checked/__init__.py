"""Bytes from outside, checked: tensor frames and safetensors headers. And files that are replaced as a whole. Standard library only.

Written once in protocol/python/checked; `npm run generate` copies it into the plugin and the engine hosts. The TypeScript readers have the same rules and codes;
test/corpus holds the cases that all of them are run against.
"""
