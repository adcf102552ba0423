"""What `refit-sidecar host install` asks of a Python: facts about it, pip under guard, and the removal of half-installed packages. Standard library only."""
