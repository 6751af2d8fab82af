"""What holds for transactions of any client, and needs no server to be seen."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from resilience import Engine
from resilience.adapters import asyncpg as for_asyncpg
from resilience.adapters import psycopg as for_psycopg


@pytest.mark.parametrize("adapter", [for_asyncpg, for_psycopg], ids=["asyncpg", "psycopg"])
def test_one_made_for_a_single_call_is_not_left_to_the_garbage_collector(adapter: Any) -> None:
    """D34: a view with a key or a deadline of its own comes with `Transactions` of its own."""

    async def connect() -> None:
        """Never called."""

    gc.disable()
    try:
        transactions = adapter.Transactions(Engine().using(deadline=5), connect)
        left = weakref.ref(transactions)
        del transactions
    finally:
        gc.enable()

    assert left() is None
