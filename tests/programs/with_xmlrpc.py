"""A program that uses xmlrpc.client and its server. It prints what it saw."""

import datetime
import json
import sys
import threading
import xmlrpc.client
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

saw = {}
paths = []


class Handler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"
    rpc_paths = ("/RPC2",)
    encode_threshold = 1000

    def log_request(self, code="-", size="-"):
        asked = self.headers.get_all("X-Asked"), self.headers["Content-Type"], self.headers["Content-Encoding"]
        paths.append([self.path, code, *asked])


def fail():
    raise ValueError("it fails")


server = SimpleXMLRPCServer(("127.0.0.1", 0), Handler, allow_none=True, use_builtin_types=True)
server.register_introspection_functions()
server.register_multicall_functions()
server.register_function(pow)
server.register_function(fail)
server.register_function(lambda value: value, "echo")
threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
URL = f"http://127.0.0.1:{server.server_address[1]}/RPC2"

with xmlrpc.client.ServerProxy(
    URL, allow_none=True, use_builtin_types=True, headers=[("X-Asked", "1"), ("X-Asked", "2")]
) as proxy:
    saw["pow"] = proxy.pow(6, 8)
    saw["methods"] = proxy.system.listMethods()
    kept = proxy("transport")._connection[1]
    for value in (None, True, 1.5, "\N{SNOWMAN} <&>", [1, [2]], {"key": "value"}, "x" * 300_000):
        assert proxy.echo(value) == value
    saw["kept"] = proxy("transport")._connection[1] is kept
    moment = datetime.datetime(2026, 11, 3, 8, 49, 37)
    saw["values"] = [proxy.echo(moment) == moment, proxy.echo(b"\0\xff").hex()]
    calls = xmlrpc.client.MultiCall(proxy)
    calls.pow(2, 3)
    calls.echo("two")
    saw["several"] = list(calls())
    try:
        proxy.fail()
    except xmlrpc.client.Fault as fault:
        saw["fault"] = [fault.faultCode, fault.faultString]
    transport = proxy("transport")
    transport.encode_threshold = 100
    saw["encoded"] = proxy.echo("y" * 10_000) == "y" * 10_000
    transport._connection[1].sock.close()
    transport._connection[1].sock = None
    saw["connected again"] = proxy.pow(2, 10)
with xmlrpc.client.ServerProxy(f"{URL}/nowhere") as proxy:
    try:
        proxy.pow(1, 1)
    except xmlrpc.client.ProtocolError as error:
        saw["error"] = [error.errcode, error.errmsg, sorted(set(error.headers) - {"Date", "Server"})]
server.shutdown()
server.server_close()
saw["paths"] = paths

json.dump(saw, sys.stdout, indent=1)
