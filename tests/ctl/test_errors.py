"""How a failure reads."""

from ctl import errors


def test_three_sentences_at_most() -> None:
    error = errors.CommandError("it broke", means="nothing was done", cure="try again")
    assert error.render() == "riata: it broke\n  nothing was done\n  next: try again"
    assert errors.UsageError("wrong").render() == "riata: wrong"


def test_exit_codes_are_small_distinct_and_explained() -> None:
    assert len({int(code) for code in errors.Exit}) == len(errors.Exit)
    assert all(0 <= code <= 130 and code.meaning for code in errors.Exit)
    assert (errors.Exit.UNAUTHORIZED, errors.Exit.NOT_FOUND, errors.Exit.UNREACHABLE) == (3, 4, 5)
