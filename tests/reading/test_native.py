"""Exceptions of protocols other than HTTP: found by the names of their classes, read in their own terms."""

from __future__ import annotations

from resilience import Phase, Signal, read


def test_a_class_that_no_protocol_knows_is_read_attribute_by_attribute() -> None:
    class Refused(Exception):
        status = 503

    assert Signal(status=503, raised=Refused) == read(Refused())
    assert Phase.UNKNOWN is read(Refused()).phase
