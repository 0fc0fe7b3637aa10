"""Makes the shared fixtures known to every module here."""

from tests.e2e.fixtures import full, hub_line, light, line, nothing_left, whole_full, whole_light

__all__ = ["full", "hub_line", "light", "line", "nothing_left", "whole_full", "whole_light"]
