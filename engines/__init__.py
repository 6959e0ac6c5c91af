"""Engines: the contract, the backends that run it, and the shipped bundle (`engines/mini`). The leaf of all imports."""
