"""The operator's command `riata`. It talks to a hub over HTTPS only and imports neither hub nor agent code."""
