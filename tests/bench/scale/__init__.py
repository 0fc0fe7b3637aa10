"""One hub under a whole fleet: `make bench-scale`."""
