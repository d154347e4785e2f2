"""The way in: intake, references, locate, plan, apply, outcome."""
