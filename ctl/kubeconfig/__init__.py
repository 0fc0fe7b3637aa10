"""Kubeconfigs: the entries riata owns, and how they get into a file that belongs to somebody else."""
