"""It prints which module is http.client, wherever one may meet it."""

import http.client
import json
import sys
import urllib.request
import xmlrpc.client

modules = [http.client, sys.modules["http.client"], urllib.request.http.client, xmlrpc.client.http.client]
assert all(module is http.client for module in modules)
json.dump({"file": http.client.__file__, "module": http.client.__name__}, sys.stdout)
