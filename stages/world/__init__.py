"""The built-in world: a small drawn place whose every truth is known by construction."""
