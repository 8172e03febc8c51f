"""A transport adapter for requests with httpio under its connections, and under no others.

session = requests.Session()
session.mount("https://", httpio.contrib.requests.HTTPAdapter())
"""

from __future__ import annotations

from typing import Any

import requests.adapters

from httpio.contrib.urllib3 import pool_class

__all__ = ["HTTPAdapter"]

_Adapter: Any = requests.adapters.HTTPAdapter


class HTTPAdapter(_Adapter):  # type: ignore[misc]
    """requests' own adapter, with its arguments, over pools of `httpio.contrib.urllib3.pool_class`; proxies too."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        _use_httpio(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        _use_httpio(manager)  # each time: another thread may just have made it
        return manager


def _use_httpio(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: pool_class(pool) for scheme, pool in pools.items()}
