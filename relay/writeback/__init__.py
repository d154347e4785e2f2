"""The way back: identifier event → identifier row → guarded PUT."""
