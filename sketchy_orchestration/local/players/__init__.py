"""Players that play the way the application does, and check what they hear against what they did."""
