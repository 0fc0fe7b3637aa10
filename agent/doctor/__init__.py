"""`riata-agent doctor`: what keeps this agent from its hub, or from its API server, check by check."""
