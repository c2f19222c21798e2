"""README.md shows what pi prints."""

from chores.readme import README, renewed


def test_the_readme_shows_the_help_that_pi_prints() -> None:
    assert README.read_text() == renewed(), "run: inv readme"
