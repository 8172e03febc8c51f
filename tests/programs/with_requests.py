"""A program that uses requests, as many do. It prints what it saw.

    python with_requests.py ORIGIN SECURE_ORIGIN CA PROXY TUNNELLING_PROXY SOCKS_PROXY NAME

NAME: one that the server has not been asked for yet.
"""

import hashlib
import io
import json
import sys
import tempfile

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util.retry import Retry

ORIGIN, SECURE, CA, PROXY, TUNNEL, SOCKS, NAME = sys.argv[1:]
saw = {}
session = requests.Session()
session.trust_env = False


def look(response):
    history = [[old.status_code, old.reason, old.url, len(old.content)] for old in response.history]
    fields = sorted((name, value) for name, value in response.headers.items() if name != "Date")
    seen = [response.status_code, response.reason, response.raw.version, response.url, fields, history]
    try:
        return [*seen, response.json()]
    except ValueError:
        return [*seen, len(response.content), hashlib.sha256(response.content).hexdigest()]


def attempt(do):
    try:
        return look(do())
    except Exception as error:
        return type(error).__name__


def pieces():
    for number in range(100):
        yield b"%d" % number


# How to ask.
saw["get"] = look(session.get(f"{ORIGIN}/echo", params={"a": "b", "c": ["d", "e f"]}, timeout=20))
saw["kept"] = look(session.get(f"{ORIGIN}/echo"))
saw["head"] = look(session.head(f"{ORIGIN}/lines"))
saw["options"] = look(session.options(f"{ORIGIN}/echo"))
saw["delete"] = look(session.delete(f"{ORIGIN}/echo"))
saw["json"] = look(session.post(f"{ORIGIN}/echo", json={"name": ["value", 1, None]}))
saw["form"] = look(session.post(f"{ORIGIN}/echo", data={"name": "value", "x": "y z"}))
saw["bytes"] = look(session.put(f"{ORIGIN}/echo", data=b"\x00" * 300_000))
saw["text"] = look(session.patch(f"{ORIGIN}/echo", data="\N{SNOWMAN}"))
saw["file"] = look(session.put(f"{ORIGIN}/echo", data=io.BytesIO(b"0123456789" * 20_000)))
saw["chunks"] = look(session.post(f"{ORIGIN}/echo", data=pieces()))
saw["chunks, empty"] = look(session.post(f"{ORIGIN}/echo", data=iter([])))
with tempfile.TemporaryFile() as file:
    file.write(b"0123456789" * 20_000)
    file.seek(7)
    saw["the rest of a file"] = look(session.put(f"{ORIGIN}/echo", data=file))
    file.seek(0)
    saw["a file redirected"] = look(session.put(f"{ORIGIN}/redirect/307/echo", data=file))
saw["expecting"] = look(session.put(f"{ORIGIN}/echo", data=b"expected", headers={"Expect": "100-continue"}))
form = requests.Request("POST", f"{ORIGIN}/echo", files={"file": ("name.txt", io.BytesIO(b"content"), "text/plain")})
saw["multipart"] = look(session.send(session.prepare_request(form)))[:3]
saw["fields"] = look(session.get(f"{ORIGIN}/echo", headers={"X-One": "1", "User-Agent": None, "X-Bytes": b"2"}))
saw["injected"] = attempt(lambda: session.get(f"{ORIGIN}/echo", headers={"X-One": "1\r\nX-Two: 2"}))

# Who asks, and where to.
saw["basic"] = look(session.get(f"{ORIGIN}/basic", auth=("user", "pass")))
saw["digest"] = look(session.get(f"{ORIGIN}/digest", auth=HTTPDigestAuth("user", "pass")))
saw["refused"] = look(session.get(f"{ORIGIN}/basic"))
for status in (301, 302, 303, 307, 308):
    saw[f"redirect {status}"] = look(session.get(f"{ORIGIN}/redirect/{status}/redirect/{status}/echo"))
    saw[f"redirect {status} of a POST"] = look(session.post(f"{ORIGIN}/redirect/{status}/echo", data=b"posted"))
saw["loop"] = attempt(lambda: session.get(f"{ORIGIN}/" + "redirect/302/" * 40 + "echo"))
saw["cookies"] = look(session.get(f"{ORIGIN}/cookies"))
saw["jar"] = sorted(session.cookies.items())
session.cookies.clear()
saw["proxied"] = look(session.get(f"{ORIGIN}/echo?by=proxy", proxies={"http": PROXY}))
saw["secure"] = look(session.get(f"{SECURE}/echo", verify=CA))
saw["secure and kept"] = look(session.get(f"{SECURE}/echo", verify=CA))
saw["tunnelled"] = look(session.get(f"{SECURE}/echo?by=tunnel", verify=CA, proxies={"https": TUNNEL}))
for login in ("", "user:pass@"):
    proxy = f"socks5h://{login}{SOCKS}"
    saw[f"by SOCKS {login}"] = [
        look(session.get(url, verify=CA, proxies={"http": proxy, "https": proxy}))
        for url in (f"{ORIGIN}/echo", f"{SECURE}/echo", f"{ORIGIN}/chunked", f"{SECURE}/gzip")
    ]
saw["not trusted"] = attempt(lambda: session.get(SECURE))
saw["never"] = attempt(lambda: session.get(f"{ORIGIN}/never", timeout=(20, 0.2)))

# What comes.
for target in ("status/204", "status/404", "status/500", "status/304", "chunked", "gzip", "close", "interim"):
    saw[target] = attempt(lambda target=target: session.get(f"{ORIGIN}/{target}"))
for target in ("lines", "chunked", "gzip", "close"):
    with session.get(f"{ORIGIN}/{target}", stream=True) as response:
        saw[f"lines of {target}"] = sum(1 for line in response.iter_lines())
    with session.get(f"{ORIGIN}/{target}", stream=True) as response:
        content = [len(piece) for piece in response.iter_content(1000)]
        saw[f"content of {target}"] = [sum(content), max(content)]
    with session.get(f"{ORIGIN}/{target}", stream=True) as response:
        saw[f"raw {target}"] = [len(response.raw.read(10)), len(response.raw.read(decode_content=False))]
for target in ("short", "shortchunks"):
    saw[target] = attempt(lambda target=target: session.get(f"{ORIGIN}/{target}"))
    for size in (1000, 1 << 20):
        got = []
        with session.get(f"{ORIGIN}/{target}", stream=True) as response:
            saw[f"{target} in pieces of {size}"] = attempt(lambda: got.extend(response.iter_content(size)))  # noqa: B023
        saw[f"{target} until then, {size}"] = sum(map(len, got))
with session.get(f"{ORIGIN}/redirect/302/lines", stream=True) as response:
    saw["redirected and streamed"] = [len(response.history), sum(map(len, response.iter_content(None)))]
with session.get(f"{ORIGIN}/lines", stream=True) as response:
    raw = response.raw
    saw["headers"] = [response.headers["x-twice"], raw.headers.getlist("X-Twice"), response.encoding]
    saw["original"] = [raw._original_response.msg.get_all("x-twice"), raw._original_response.isclosed()]
with session.get(f"{ORIGIN}/lines", stream=True):
    pass  # not read: its connection is not used again
saw["after one that was not read"] = look(session.get(f"{ORIGIN}/echo"))
session.mount(f"{ORIGIN}/once", HTTPAdapter(max_retries=Retry(3, status_forcelist=[503], allowed_methods=None)))
answer = look(session.put(f"{ORIGIN}/once/{NAME}", data=b"again"))
saw["retried"] = [answer[0], answer[-1]["number"], answer[-1]["length"]]

json.dump(saw, sys.stdout, indent=1)
