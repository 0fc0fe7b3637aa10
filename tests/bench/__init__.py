"""`make bench`: figures for hub and agent on this machine, kept as JSON and compared with the last run."""
