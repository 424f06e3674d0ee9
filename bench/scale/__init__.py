"""A simulation of arrivals, instances and hot visitors: what breaks first, and what helps."""
