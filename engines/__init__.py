"""The leaf package: what an engine is, how to run one, and the bundle that is shipped (`engines/mini`)."""
