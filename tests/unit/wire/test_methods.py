"""The method table: exact paths, and frozen once connections rely on it."""

from __future__ import annotations

import pytest

from sentinel_ext.wire.methods import Kind, Method, MethodTable


def test_a_method_is_found_by_its_exact_path_only():
    table = MethodTable()
    method = Method(b"/pkg.Svc/Do", Kind.UNARY)
    table.add(method)

    assert method is table.get(b"/pkg.Svc/Do")
    assert [None] * 4 == [table.get(path) for path in (b"/pkg.Svc/do", b"/pkg.Svc/Do/", b"//pkg.Svc/Do", b"")]


def test_services_are_listed_once_and_sorted():
    table = MethodTable()
    for path in (b"/b.B/Two", b"/b.B/One", b"/a.A/One"):
        table.add(Method(path, Kind.BIDI))

    assert ("a.A", "b.B") == table.services()


@pytest.mark.parametrize("path", [b"", b"/", b"pkg.Svc/Do", b"/pkg.Svc", b"/pkg.Svc/", b"//Do", b"/a/b/c"])
def test_a_path_that_is_not_service_and_method_is_refused(path):
    with pytest.raises(ValueError, match="is not /service/method"):
        MethodTable().add(Method(path, Kind.UNARY))


def test_a_path_is_taken_once():
    table = MethodTable()
    table.add(Method(b"/a/b", Kind.UNARY))

    with pytest.raises(ValueError, match="is there already"):
        table.add(Method(b"/a/b", Kind.BIDI))


def test_a_frozen_table_takes_nothing_more():
    table = MethodTable()
    table.freeze()

    with pytest.raises(RuntimeError, match="frozen"):
        table.add(Method(b"/a/b", Kind.UNARY))
