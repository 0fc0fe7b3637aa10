"""`riata demo`: a hub, agents and clusters on this machine, ready to try, gone when it ends.

Two kinds of clusters: made by the checkout's test harness (`made`), or yours, by a kubeconfig (`borrowed`). Both end in
the same `Running`, which `handout` turns into a kubeconfig and something to try.
"""
