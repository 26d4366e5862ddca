"""RFC 6962's hash tree over a growing list of leaves, in memory that grows with its logarithm."""

import hashlib


class MerkleTree:
    """Append leaves one by one; `root()` at any time.

    Leaves are hashed with the prefix 0x00 and nodes with 0x01, so that neither can stand for the
    other (RFC 6962, section 2.1).
    """

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []
        self.size = 0

    def append(self, leaf: bytes) -> None:
        """Add one leaf: its bytes, not yet hashed."""
        width, digest = 1, hashlib.sha256(b"\x00" + leaf).digest()
        while self._peaks and self._peaks[-1][0] == width:
            _, left = self._peaks.pop()
            width, digest = 2 * width, _node(left, digest)
        self._peaks.append((width, digest))
        self.size += 1

    def root(self) -> bytes:
        """The tree's head, 32 bytes; of no leaves, the hash of nothing."""
        if not self._peaks:
            return hashlib.sha256().digest()
        *rest, (_, digest) = self._peaks
        for _, left in reversed(rest):
            digest = _node(left, digest)
        return digest


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
