"""Chat templates of strangers, rendered where they can be stopped."""
