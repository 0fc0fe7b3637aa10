"""proto/aio/gone.py: what a protocol may still do when its connection is lost."""

from proto.aio.gone import GONE


def test_what_stands_for_a_lost_transport_takes_everything() -> None:
    GONE.write(b"x")
    GONE.pause_reading()
    GONE.resume_reading()
    GONE.close()
    GONE.abort()
    assert GONE.is_closing()
    assert GONE.get_write_buffer_size() == 0
    assert GONE.get_extra_info("socket") is None
