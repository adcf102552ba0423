"""Refit Sidecar as a Python package: the sidecar (a Node program) as package data, and its launcher. The plugin finds the sidecar here when it lies in a UI's folder alone."""
