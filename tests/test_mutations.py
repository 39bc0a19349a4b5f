"""That every guard which tests/mutations.py takes away is still where it says."""

from __future__ import annotations

import pytest
from mutations import MUTATIONS, REPOSITORY, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.guard)
def test_the_guard_is_there_once(mutation: Mutation) -> None:
    assert (REPOSITORY / mutation.file).read_text().count(mutation.before) == 1
    file, name = mutation.test.split("[")[0].split("::")
    assert f"def {name}(" in (REPOSITORY / file).read_text()
