"""A program that uses urllib.request, as many do. It prints what it saw.

python with_urllib.py ORIGIN SECURE_ORIGIN CA PROXY TUNNELLING_PROXY
"""

import hashlib
import http.client
import io
import json
import socket
import ssl
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import urllib.robotparser
from http.cookiejar import CookieJar

ORIGIN, SECURE, CA, PROXY, TUNNEL = sys.argv[1:]
KNOWN = (urllib.error.URLError, http.client.InvalidURL, TimeoutError, UnicodeEncodeError, ValueError)
saw = {}


def look(response):
    with response:
        body = response.read()
    fields = sorted((name, value) for name, value in response.headers.items() if name != "Date")
    seen = [response.status, response.reason, response.version, response.geturl(), fields, response.isclosed()]
    try:
        return [*seen, json.loads(body)]
    except ValueError:
        return [*seen, len(body), hashlib.sha256(body).hexdigest()]


def attempt(do):
    try:
        return do()
    except urllib.error.HTTPError as error:
        return ["HTTPError", error.code, error.reason, error.headers["Content-Length"], len(error.read())]
    except KNOWN as error:
        return [next(kind.__name__ for kind in KNOWN if isinstance(error, kind)), str(error)]


direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
passwords.add_password(None, ORIGIN, "user", "pass")
authenticating = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPBasicAuthHandler(passwords),
    urllib.request.HTTPDigestAuthHandler(passwords),
)
jar = CookieJar()
eating = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
context = ssl.create_default_context(cafile=CA)
secure = urllib.request.HTTPSHandler(context=context)


def request(target, **options):
    return urllib.request.Request(ORIGIN + target, **options)


# How to ask.
saw["get"] = look(direct.open(f"{ORIGIN}/echo?a=b&c=%20#fragment", timeout=20))
saw["fields"] = look(direct.open(request("/echo", headers={"X-One": "1", "user-agent": "me/1.0"})))
saw["head"] = look(direct.open(request("/lines", method="HEAD")))
saw["delete"] = look(direct.open(request("/echo", method="DELETE")))
saw["form"] = look(direct.open(f"{ORIGIN}/echo", urllib.parse.urlencode({"name": "value", "x": "y z"}).encode()))
saw["iterable"] = look(direct.open(request("/echo", data=(b"%d" % n for n in range(100)), method="POST")))
expecting = {"Expect": "100-continue"}
saw["expecting"] = look(direct.open(request("/echo", data=b"expected", method="PUT", headers=expecting)))
saw["text file"] = attempt(lambda: look(direct.open(request("/echo", data=io.StringIO("text"), method="POST"))))
with tempfile.TemporaryFile() as file:
    file.write(b"0123456789" * 20_000)
    file.seek(0)
    saw["file in chunks"] = look(direct.open(request("/echo", data=file, method="PUT")))
    file.seek(0)
    length = {"Content-Length": "200000", "Content-Type": "application/octet-stream"}
    saw["file with a length"] = look(direct.open(request("/echo", data=file, method="PUT", headers=length)))
saw["injected"] = [
    attempt(lambda target=target: look(direct.open(f"{ORIGIN}{target}")))[:1]
    for target in ("/a b", "/a\r\nX: y", "/a\x00", "/\N{SNOWMAN}")
]
saw["injected field"] = attempt(lambda: look(direct.open(request("/echo", headers={"X-One": "1\r\nX-Two: 2"}))))[:1]

# Who asks, and where to.
saw["basic"] = look(authenticating.open(f"{ORIGIN}/basic"))
saw["digest"] = look(authenticating.open(f"{ORIGIN}/digest"))
saw["refused"] = attempt(lambda: look(direct.open(f"{ORIGIN}/basic")))
for status in (301, 302, 303, 307, 308):
    saw[f"redirect {status}"] = attempt(lambda status=status: look(direct.open(f"{ORIGIN}/redirect/{status}/echo")))
    post = request(f"/redirect/{status}/echo", data=b"posted")
    saw[f"redirect {status} of a POST"] = attempt(lambda post=post: look(direct.open(post)))
saw["loop"] = attempt(lambda: direct.open(f"{ORIGIN}/redirect/302/redirect/302/" + "redirect/302/" * 20 + "echo"))
saw["cookies"] = look(eating.open(f"{ORIGIN}/cookies"))
saw["jar"] = sorted((cookie.name, cookie.value) for cookie in jar)
proxied = urllib.request.build_opener(urllib.request.ProxyHandler({"http": PROXY}))
saw["proxied"] = look(proxied.open(f"{ORIGIN}/echo?by=proxy"))
saw["secure"] = look(urllib.request.build_opener(urllib.request.ProxyHandler({}), secure).open(f"{SECURE}/echo"))
tunnelled = urllib.request.build_opener(urllib.request.ProxyHandler({"https": TUNNEL}), secure)
saw["tunnelled"] = look(tunnelled.open(f"{SECURE}/echo?by=tunnel"))
saw["not trusted"] = attempt(lambda: urllib.request.build_opener(urllib.request.ProxyHandler({})).open(SECURE))[:1]
with socket.create_server(("127.0.0.1", 0)) as listener:
    free = listener.getsockname()[1]
saw["nobody there"] = attempt(lambda: direct.open(f"http://127.0.0.1:{free}/"))

# What comes.
for target in ("status/204", "status/404", "status/500", "status/304", "chunked", "gzip", "close", "interim"):
    saw[target] = attempt(lambda target=target: look(direct.open(f"{ORIGIN}/{target}")))
for target in ("lines", "chunked", "close"):
    with direct.open(f"{ORIGIN}/{target}") as response:
        buffer = bytearray(100)
        saw[f"pieces of {target}"] = [
            response.read(7).decode(),
            response.readline().decode(),
            response.readinto(buffer),
            buffer.decode(),
            bool(response.peek(1)),
            len(response.read1(10)),
            sum(1 for line in response),
            response.read().decode(),
        ]
    with direct.open(f"{ORIGIN}/{target}") as response:
        saw[f"text of {target}"] = sum(len(line) for line in io.TextIOWrapper(response, "ascii"))
with direct.open(f"{ORIGIN}/lines") as response:
    twice = response.headers.get_all("x-twice"), response.getheader("X-TWICE"), response.info().get_content_charset()
    saw["headers"] = [*twice, response.headers.get_content_type(), len(response.getheaders()), response.fileno() > 0]
saw["never"] = attempt(lambda: direct.open(f"{ORIGIN}/never", timeout=0.2))
urllib.request.install_opener(direct)
with tempfile.NamedTemporaryFile() as file:
    reports = []
    name, headers = urllib.request.urlretrieve(f"{ORIGIN}/lines", file.name, lambda *numbers: reports.append(numbers))
    saw["retrieved"] = [hashlib.sha256(file.read()).hexdigest(), reports[0], reports[-1], headers["Content-Length"]]
robots = urllib.robotparser.RobotFileParser(f"{ORIGIN}/status/404")
robots.read()
saw["robots"] = robots.can_fetch("*", f"{ORIGIN}/anything")

json.dump(saw, sys.stdout, indent=1)
