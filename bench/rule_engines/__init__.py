"""Our decision beside other rule engines: the same rules, the same events, the same answers."""
