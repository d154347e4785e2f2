"""A Dataverse Web API on SQLite, for development and tests."""
