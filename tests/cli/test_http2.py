"""The clients' numbers of HTTP/2 against the server's, which they must not import."""

from __future__ import annotations

from sentinel_ext.client import http2
from sentinel_ext.wire import frames


def test_clients_and_server_mean_the_same_by_every_name_that_both_have():
    ours, theirs = (
        {
            name: value.format if name in {"FRAME", "U32", "SETTING", "PREFIX"} else value
            for name, value in vars(module).items()
            if name.isupper() and not name.startswith("_")
        }
        for module in (http2, frames)
    )
    # What only clients have: they never ask for larger frames, and open their window.
    alone = {"MAX_FRAME", "DEFAULT_WINDOW", "MAX_WINDOW", "TABLE_SIZE_0"}

    assert ours.keys() - theirs.keys() == alone
    assert {name: theirs[name] for name in ours.keys() & theirs.keys()} == {
        name: ours[name] for name in ours.keys() & theirs.keys()
    }


def test_their_frames_are_the_same_bytes():
    assert frames.frame(frames.DATA, 1, 7, b"x" * 300) == http2.frame(http2.DATA, 1, 7, b"x" * 300)
    assert frames.frame(4, 1, 9, b"x" * 70_000)[:5] == http2.frame_start(70_000, 4, 1)
    assert frames.settings([(1, 0), (4, 9)]) == http2.settings((1, 0), (4, 9))
    assert frames.window_update(0, 77) == http2.window_update(77)
