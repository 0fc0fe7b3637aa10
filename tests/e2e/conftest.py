"""Makes the shared fixtures known to every module here."""

from tests.e2e.fixtures import clusters, full, hub_line, light, line, line_or_none, quiet, whole_full, whole_light

__all__ = ["clusters", "full", "hub_line", "light", "line", "line_or_none", "quiet", "whole_full", "whole_light"]
