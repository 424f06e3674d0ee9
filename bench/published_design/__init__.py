"""The published design, measured beside ours."""
