"""What plugin and hosts share: bytes from outside, checked (tensor frames, safetensors headers), files that are replaced as a whole, CUDA's driver.
Standard library only.

Written once in protocol/python/checked; `npm run generate` copies it into the plugin and the engine hosts. The TypeScript readers have the same rules and codes;
test/corpus holds the cases that all of them are run against.
"""
