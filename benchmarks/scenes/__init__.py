"""Sounds that bundles generate for synthetic clips with known events."""
