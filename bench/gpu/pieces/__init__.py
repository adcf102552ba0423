"""One measurement per module: `run(context)` yields result rows. A piece never depends on another one having run."""
