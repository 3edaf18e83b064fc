"""The sketchy command: thin, one module a group."""
