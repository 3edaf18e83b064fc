"""The stand-in, over real HTTP and through the official SDKs."""
