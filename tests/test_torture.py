"""The promises of indexing under torture, in small; ``tests/torture.py`` runs them at length."""

import torture


def test_good_files_are_in_and_bad_ones_are_listed_whatever_lies_around_them(tmp_path):
    outcome = torture.torture(tmp_path, good=5, odd=len(torture.KINDS) + len(torture.NAMES))
    assert outcome.broken == []


def test_a_run_killed_at_any_moment_goes_on_to_the_same_index(tmp_path):
    assert len(torture.kills(tmp_path, kills=2, files=24)) == 2
