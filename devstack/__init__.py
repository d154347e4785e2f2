"""What runs only on a developer's machine and never ships."""
