"""Questions and answers out of documents, by the model that is loaded: documents in passages, what the model is asked about each, which of
what it says can be used, and the folder in which people review it. Must not import any host."""
