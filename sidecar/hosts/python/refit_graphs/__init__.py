"""Weightless graphs on demand. In: a checkpoint's header. Out: a graph bundle (docs/develop/graphs.md).

It builds the network with diffusers on the meta device and traces it with every parameter as a graph input. It never reads
weights, never uses the network and never writes outside the folder it is given.
"""
