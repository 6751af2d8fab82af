"""Better no adapter than one that silently does half of what it says: what an adapter needs of its library is looked for at import."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from aiohttp import payload
from aiohttp.client_reqrep import ClientRequest

from resilience.adapters import aiohttp as for_aiohttp
from resilience.adapters import grpc as for_grpc

BY_HAND = next(kind for kind in grpc.aio._interceptor.InterceptedStreamUnaryCall.__mro__ if for_grpc._BY_HAND in vars(kind))


def imported_anew(module: ModuleType) -> None:
    spec = importlib.util.spec_from_file_location("anew", str(module.__file__))
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("adapter", [for_aiohttp, for_grpc])
def test_this_version_is_known(adapter: ModuleType) -> None:
    imported_anew(adapter)


@pytest.mark.parametrize(
    ("adapter", "holder", "name", "instead"),
    [
        pytest.param(adapter, holder, name, instead, id=f"{holder.__name__}.{name}")
        for adapter, holder, name, instead in [
            (for_aiohttp, ClientRequest, "__init__", lambda self: None),
            (for_aiohttp, ClientRequest, "update_expect_continue", None),
            (for_aiohttp, payload.Payload, "consumed", None),
            (for_aiohttp, payload.AsyncIterablePayload, "_cached_chunks", None),
            (for_aiohttp, aiohttp.StreamReader, "__slots__", ("_buffer",)),
            (for_grpc, grpc.aio, "_interceptor", None),
            (for_grpc, grpc.aio._interceptor, "InterceptedStreamUnaryCall", None),
            (for_grpc, BY_HAND, for_grpc._BY_HAND, None),
        ]
    ],
)
def test_one_that_lacks_what_is_needed_is_not(monkeypatch: pytest.MonkeyPatch, adapter: Any, holder: Any, name: str, instead: Any) -> None:
    if instead is None:
        monkeypatch.delattr(holder, name)
    else:
        monkeypatch.setattr(holder, name, instead)

    with pytest.raises(ImportError, match=r"^(aiohttp|grpcio) [\d.]+ is not known here"):
        imported_anew(adapter)
