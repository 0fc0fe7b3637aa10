"""What to do with a new cluster, as text."""

from ctl import joining

MADE = {"name": "a", "command": "riata clusters manifest a | kubectl apply -f -"}


def test_without_a_manifest_the_commands_are_left() -> None:
    text = joining.guide({**MADE, "manifest": None})
    assert "riata clusters manifest a | kubectl apply -f -" in text.splitlines()
    assert "curl" not in text


def test_what_the_hub_sends_to_paste_stands_whole_and_cannot_drive_the_terminal() -> None:
    made = {**MADE, "manifest": {"shell": "sh <<'E'\nls \x1b[2J\nE\n", "expiresAt": "2026-11-27T01:00:00Z"}}
    text = joining.guide(made)
    assert "\nsh <<'E'\nls \ufffd[2J\nE\n" in text
    assert "until 2026-11-27T01:00:00Z" in text


def test_every_command_is_for_the_hub_of_the_profile_that_was_typed() -> None:
    """Pasted without it, the cluster of this name at another hub would get the agent."""
    made = {**MADE, "manifest": {"shell": "sh <<'E'\nE\n", "expiresAt": "2026-11-27T01:00:00Z"}}
    commands = [line for line in joining.guide(made, "staging").splitlines() if "riata clusters" in line]
    assert len(commands) == 3
    assert all("riata clusters manifest a --profile staging " in line for line in commands), commands
