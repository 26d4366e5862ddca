"""Leases on real rows: who may ask for what, and for how long."""

import threading
import time

import psycopg
import pytest

from cache import CompletionStore

A, B, C = (bytes([number]) * 32 for number in range(3))


@pytest.fixture
def place(postgres_url):
    """Leases are PostgreSQL's alone."""
    return postgres_url


@pytest.fixture
def other(place):
    """A second service on the same database."""
    with CompletionStore.open(place) as opened:
        yield opened


def test_a_key_has_one_holder(store, other):
    """What is held is not given again; what is free is, in the same request."""
    ours, theirs = store.leases(60), other.leases(60)
    assert set(ours.take([B, A])) == {A, B}
    assert set(theirs.take([A, B, C])) == {C}
    assert ours.take([A]) == {}


def test_what_is_given_back_is_free(store, other):
    """At once, and only what was given back."""
    ours, theirs = store.leases(60), other.leases(60)
    taken = ours.take([A, B])
    assert ours.give_back([taken[A]]) == {taken[A]}
    assert set(theirs.take([A, B])) == {A}


def test_an_expired_lease_is_taken_over_with_a_higher_token(store, other):
    """Its former holder finds out when it renews it or gives it back, and harms nobody."""
    ours, theirs = store.leases(0.2), other.leases(60)
    old = ours.take([A, B])
    time.sleep(0.25)
    new = theirs.take([A])
    assert new[A] > max(old.values())
    assert ours.renew(old.values()) == {old[B]}
    assert ours.give_back(old.values()) == {old[B]}
    assert theirs.renew(new.values()) == {new[A]}


def test_a_renewed_lease_does_not_expire(store, other):
    """Renewing counts from the moment at which it is done."""
    ours, theirs = store.leases(0.4), other.leases(60)
    taken = ours.take([A])
    for _ in range(4):
        time.sleep(0.2)
        assert ours.renew(taken.values()) == set(taken.values())
        assert theirs.take([A]) == {}


def test_the_databases_clock_counts(store, other, place):
    """A lease ends when the database says so, whatever time it is at its holder."""
    ours = store.leases(60)
    ours.take([A])
    with psycopg.connect(place, autocommit=True) as connection:
        [left] = connection.execute(
            "SELECT expires_at - extract(epoch FROM clock_timestamp()) FROM leases"
        ).fetchone()
        assert 55 < left <= 60
        connection.execute("UPDATE leases SET expires_at = expires_at - 61")
    assert set(other.leases(60).take([A])) == {A}


def test_of_many_who_take_at_once_one_gets_each_key(place):
    """Twelve stores, four hundred keys, each in an order of its own: no key twice, none left."""
    keys = [number.to_bytes(32, "big") for number in range(400)]
    taken = []

    def take(number):
        with CompletionStore.open(place) as store:
            taken.append(list(store.leases(60).take(keys[number:] + keys[:number])))

    threads = [threading.Thread(target=take, args=(31 * number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for some in taken for key in some) == keys


def test_who_comes_second_by_a_moment_gets_nothing(store, place):
    """A lease that is being taken in a transaction not yet committed is waited for."""
    leases, seen = store.leases(60), []
    with psycopg.connect(place) as first:
        first.execute(
            "INSERT INTO leases (key, holder, expires_at)"
            " VALUES (%s, 'first', extract(epoch FROM clock_timestamp()) + 60)",
            [A],
        )
        second = threading.Thread(target=lambda: seen.append(leases.take([A, B])))
        second.start()
        second.join(timeout=0.3)
        assert second.is_alive()
        first.commit()
        second.join()
    assert [set(taken) for taken in seen] == [{B}]


def test_nothing_is_asked_for_nothing(store):
    """Empty requests are answered empty."""
    leases = store.leases(60)
    assert leases.take([]) == {}
    assert leases.renew([]) == leases.give_back([]) == set()


def test_a_file_has_no_leases(path):
    """One process writes it: nobody else could ask."""
    with CompletionStore.open(path) as store:
        assert store.leases(60) is None
