"""The command line: one file a command; it parses and calls the API, without science of its own."""
