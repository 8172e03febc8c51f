"""An HTTP/1.1 server for tests: deterministic objects of any size and number, and a menu of faults.

It runs in a process of its own and shares no code with the client.

    with httpio.testing.Server() as server:
        body = urllib.request.urlopen(f"{server.url}/objects/7?size=100").read()
        assert body == httpio.testing.object_bytes(7, 100)

By hand: `python -m httpio.testing --port 8000`.
"""

from httpio.testing.faults import Faults, Stats
from httpio.testing.objects import object_bytes
from httpio.testing.server import Server

__all__ = ["Faults", "Server", "Stats", "object_bytes"]
