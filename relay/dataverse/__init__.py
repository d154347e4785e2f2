"""The Dataverse side: Web API client, batches, quoting, throttling, metadata, events."""
