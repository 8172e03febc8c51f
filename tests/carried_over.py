"""Programs for Python 2, as 2to3 has carried them over; of their imports only httplib's was changed by hand."""

# ruff: noqa: E401, I001, RUF005, RUF012, RUF021, RUF059, SIM115, UP024, UP031
from httpio import httplib
import os
import socket
import time
import urllib.request, urllib.parse, urllib.error
import urllib.parse
from io import StringIO


def fetch(host, port):
    """The page of a manual: one connection, several requests."""
    seen = []
    conn = httplib.HTTPConnection(host, port, timeout=10)
    for path in "/index.html", "/missing":
        conn.request("GET", path)
        response = conn.getresponse()
        body = response.read()
        seen.append((response.status, response.reason, response.version, len(body)))
    conn.request("HEAD", "/index.html", headers={"Accept": "text/html", "X-Count": 3})
    response = conn.getresponse()
    seen.append(
        (
            response.status,
            response.getheader("content-type"),
            response.getheader("none", "nothing"),
            len(response.read()),
        )
    )
    params = urllib.parse.urlencode([("spam", 1), ("eggs", "a b")])
    conn.request("POST", "/form", params, {"Content-type": "application/x-www-form-urlencoded"})
    response = conn.getresponse()
    seen.append((response.status, response.read().decode("ascii")))
    conn.close()
    return seen


def upload_form(host, port, fields, files):
    """A form with files through the interface of Python 1.5."""
    boundary = "----------ThIs_Is_tHe_bouNdaRY_$"
    lines = []
    for name, value in fields:
        lines += ["--" + boundary, 'Content-Disposition: form-data; name="%s"' % name, "", value]
    for name, filename, content in files:
        lines += ["--" + boundary]
        lines += ['Content-Disposition: form-data; name="%s"; filename="%s"' % (name, filename)]
        lines += ["Content-Type: application/octet-stream", "", content]
    lines += ["--" + boundary + "--", ""]
    body = "\r\n".join(lines).encode("ascii")
    h = httplib.HTTP(host, port)
    h.putrequest("POST", "/form")
    h.putheader("Content-Type", "multipart/form-data; boundary=%s" % boundary)
    h.putheader("Content-Length", str(len(body)))
    h.putheader("Host", host)
    h.endheaders()
    h.send(body)
    errcode, errmsg, headers = h.getreply()
    answer = h.file.read()
    h.close()
    return errcode, errmsg, headers.gettype(), answer.decode("ascii"), len(body)


def put_file(host, port, path):
    """A file as a body, and the same one step by step."""
    seen = []
    size = os.path.getsize(path)
    conn = httplib.HTTPConnection("%s:%d" % (host, port))
    f = open(path, "rb")
    try:
        conn.request("PUT", "/form", f)
        seen.append(conn.getresponse().read().decode("ascii"))
        f.seek(0)
        conn.putrequest("PUT", "/form", skip_accept_encoding=True)
        conn.putheader("Content-Length", size)
        conn.putheader("X-Parts", "one", "two")
        conn.endheaders()
        while True:
            block = f.read(1000)
            if not block:
                break
            conn.send(block)
        response = conn.getresponse()
        seen.append(response.read().decode("ascii"))
    finally:
        f.close()
        conn.close()
    return seen


def describe(host, port):
    """Everything that is said about a page."""
    conn = httplib.HTTPConnection(host, port)
    conn.request("GET", "/described")
    response = conn.getresponse()
    msg = response.msg
    seen = {}
    if "Content-Type" in msg:
        seen["type"] = (msg.gettype(), msg.getmaintype(), msg.getsubtype(), msg.getparam("charset"), msg.getplist())
    seen["cookies"] = msg.getheaders("set-cookie")
    seen["joined"] = msg["Set-Cookie"]
    seen["modified"] = int(time.mktime(msg.getdate("last-modified")[:8] + (0,)) - time.timezone)
    seen["dict"] = sorted(msg.dict.items())
    seen["headers"] = [line for line in msg.headers if line.lower().startswith("x-")]
    seen["names"] = sorted(msg.keys())
    seen["getheaders"] = sorted(response.getheaders())
    for name in msg:
        if not isinstance(msg.get(name), str):
            seen["odd"] = name
    try:
        msg["missing"]
    except KeyError:
        seen["missing"] = msg.get("missing"), msg.getheader("missing", "-"), "missing" in msg
    del msg["set-cookie"]
    msg["X-New"] = "added"
    seen["text"] = [line for line in str(msg).splitlines() if line.startswith(("X-New", "Set-"))]
    seen["body"] = response.read().decode("ascii")
    conn.close()
    return seen


def follow(url):
    """Where a link leads to, by HEAD; what is wrong with it."""
    for _ in range(5):
        scheme, netloc, path, query, _fragment = urllib.parse.urlsplit(url)
        conn = httplib.HTTPConnection(netloc)
        try:
            try:
                conn.request("HEAD", path or "/")
                response = conn.getresponse()
            except (httplib.HTTPException, socket.error) as e:
                return isinstance(e, httplib.BadStatusLine) and "bad status line" or "failed"
        finally:
            conn.close()
        if response.status not in (httplib.MOVED_PERMANENTLY, httplib.FOUND):
            return response.status, httplib.responses[response.status], path
        url = urllib.parse.urljoin(url, response.getheader("Location"))
    return "too many"


def raw(host, port, path, strict=None):
    """A server that was written before there were status lines."""
    conn = httplib.HTTPConnection(host, port, strict)
    conn.request("GET", path)
    try:
        response = conn.getresponse()
    except httplib.BadStatusLine:
        conn.close()
        return "refused"
    return (
        response.version,
        response.status,
        response.reason,
        response.read(4),
        response.read(),
        list(response.msg.items()),
    )


def reply(host, port, path):
    """The same through the interface of Python 1.5."""
    h = httplib.HTTP()
    h.connect(host, port)
    h.putrequest("GET", path)
    h.endheaders()
    code, message, headers = h.getreply()
    if code == -1:
        return code, headers
    return code, message, h.getfile().readlines()


class UnixHTTPConnection(httplib.HTTPConnection):
    """A connection through the file system."""

    def __init__(self, path):
        httplib.HTTPConnection.__init__(self, "localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


def unix(path):
    conn = UnixHTTPConnection(path)
    conn.request("GET", "/index.html")
    return conn.getresponse().read()


def fake():
    """A message and a response without a connection, as tests make them."""
    msg = httplib.HTTPMessage(
        StringIO("Content-Type: text/xml; charset=utf-8\r\nX-A: 1\r\nX-A: 2\r\n 3\r\n\r\nrest"), 0
    )
    return msg.type, msg.getparam("charset"), msg.getheader("x-a"), msg.getallmatchingheaders("X-A"), msg.fp.read()


class Recording(httplib.HTTPResponse):
    """A response that says when its head is read."""

    begun = []

    def __init__(self, sock, debuglevel=0, strict=0, method=None, buffering=False):
        httplib.HTTPResponse.__init__(self, sock, debuglevel, strict, method, buffering)

    def begin(self):
        httplib.HTTPResponse.begin(self)
        self.begun.append((self._method, self.status, self.strict))


class RecordingConnection(httplib.HTTPConnection):
    response_class = Recording
    strict = 1


def record(host, port):
    conn = RecordingConnection(host, port)
    conn.request("GET", "/index.html")
    conn.getresponse(buffering=True).read()
    conn.close()
    return Recording.begun
