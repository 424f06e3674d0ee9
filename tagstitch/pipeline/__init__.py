"""The order of steps: load once, ask the core, commit once, publish last. Knows no vendor."""
