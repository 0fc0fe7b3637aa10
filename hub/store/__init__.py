"""Durable state behind one small interface (design D7): SQLite now, etcd for several replicas later."""
