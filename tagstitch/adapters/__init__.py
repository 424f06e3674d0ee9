"""One technology per file: each stores, sends or translates, and decides nothing."""
