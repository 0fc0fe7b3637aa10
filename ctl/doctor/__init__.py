"""`riata doctor`: what keeps an operator from the hub, and the hub from its clusters, check by check."""
