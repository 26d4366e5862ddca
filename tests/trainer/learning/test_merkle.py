"""RFC 6962's hash tree."""

import hashlib

from trainer.learning.merkle import MerkleTree


def _by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    halves = _by_definition(leaves[:split]) + _by_definition(leaves[split:])
    return hashlib.sha256(b"\x01" + halves).digest()


def test_roots_follow_the_definition_at_every_size() -> None:
    """Appending one by one gives the recursive definition's root, powers of two and not."""
    tree, leaves = MerkleTree(), []
    for number in range(35):
        assert tree.root() == _by_definition(leaves)
        leaf = f"leaf {number}".encode()
        tree.append(leaf)
        leaves.append(leaf)


def test_the_published_vectors() -> None:
    """The empty tree and one empty leaf, as implementations of the RFC publish them."""
    tree = MerkleTree()
    assert tree.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    tree.append(b"")
    assert tree.root().hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
