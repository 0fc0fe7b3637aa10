"""The relay, the routes and both ends of a session in virtual time, under random faults; no socket is opened."""
