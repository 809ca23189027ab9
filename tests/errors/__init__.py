"""Wrong programs with the exact messages that they must give."""
