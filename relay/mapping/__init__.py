"""Maps: what they say, how they are checked, and how they turn a resource into a draft. Knows nothing of HTTP."""
