"""The store of a Function App: the blobs, queues and tables of its own storage account."""
