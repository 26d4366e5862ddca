"""One hop to a server, from a thread that may be left behind."""

import socket

import pytest

from trainer.errors import TeacherUnreachable
from trainer.rollouts.hop import Deadline, Hop
from trainer.rollouts.parallel import in_background


def test_what_was_closed_is_not_tried_again(caplog):
    """After an interrupt the request under way ends with its connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        hop = Hop(f"http://127.0.0.1:{server.getsockname()[1]}")
        asked = in_background(lambda: hop.request("GET", "/", Deadline.after(60.0)))
        connection, _ = server.accept()
        hop.close()
        connection.close()
        with pytest.raises(TeacherUnreachable):
            asked.result(timeout=30)
    assert "trying again" not in caplog.text
