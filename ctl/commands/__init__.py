"""One module for each noun of the command line. A command reads its arguments, asks the hub, prints; nothing else."""
