"""`taco serve keys`: made, shown, taken back."""

import pytest


@pytest.fixture
def keys(taco, tmp_path):
    """`taco serve keys …` on the test's own file."""
    path = tmp_path / "keys.json"
    return lambda *arguments: taco("serve", "keys", *arguments, "--file", path)


def test_keys_are_made_listed_and_revoked(keys):
    """The key is printed once; the list has names, scopes and ages."""
    assert "no keys, so that none is asked for" in keys("list").out
    secret = keys("add", "trainer").out.strip()
    keys("add", "dashboard", "--scope", "read", "--scope", "use")
    listed = keys("list").out
    assert secret.startswith("taco-")
    assert secret not in listed
    for shown in ("trainer", "dashboard", "use, read"):
        assert shown in listed
    assert keys("revoke", "trainer").code == 0
    assert "trainer" not in keys("list").out


def test_mistakes_are_one_sentence(keys):
    """A name twice, a name that is not there, a scope that is none."""
    keys("add", "trainer")
    assert "already" in keys("add", "trainer").err
    assert "no key 'nobody'; there are: trainer" in keys("revoke", "nobody").err
    assert "use, read, admin, got all" in keys("add", "other", "--scope", "all").err
