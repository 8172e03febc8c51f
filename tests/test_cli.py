"""The command: arguments, output, what it leaves, exit status. The transfer itself is a stand-in."""

import io
import os
import re
import signal
import ssl
import subprocess
import sys
from types import SimpleNamespace

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from httpio.bulk.engine import Job
from httpio.bulk.report import Result, Summary
from httpio.cli import get, main
from httpio.cli import progress as progress_module
from httpio.exceptions import ConnectionClosed, ConnectionTimedOut
from httpio.messages import Request
from httpio.proxies import Proxy
from httpio.urls import Origin

SUMMARY = re.compile(r"(\d+) objects?, (\d+) bytes, (\d+) failures?, \d+\.\d\d s, \d+ objects/s\n")


class Transfer:
    """Stands in for `transfer`: *outcomes* gives for a target its content, a status, or an exception."""

    def __init__(self, outcomes=None, content=b"content"):
        self.outcomes = outcomes or {}
        self.content = content
        self.jobs = []
        self.options = {}
        self.ended = False

    def __call__(self, jobs, *, sink, **options):
        self.options = options
        try:
            for job in jobs:
                self.jobs.append(job)
                yield self.result(job, sink)
        finally:
            # Not too late: what it holds may need the sink.
            self.ended = not sink._closed

    def result(self, job, sink):
        outcome = self.outcomes.get(job.request, self.content)
        if isinstance(outcome, KeyboardInterrupt):
            sink.open(job.name).write(b"half")
            raise outcome
        if isinstance(outcome, BaseException):
            return Result(job, error=outcome)
        if isinstance(outcome, int):
            return Result(job, outcome)
        return Result(job, 200, path=sink.store(job.name, outcome))


@pytest.fixture
def transfer(monkeypatch):
    fake = Transfer()
    monkeypatch.setattr(get, "transfer", fake)
    return fake


@pytest.fixture
def run(transfer, tmp_path, capsys):
    def run(*arguments, directory=tmp_path / "dir"):
        status = main(["get", "-d", str(directory), *arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestTransfer:
    def test_urls_become_files(self, run, transfer, tmp_path):
        done = run("http://h/a", "http://h/b/c?d")
        assert (done.status, done.err) == (0, "")
        assert SUMMARY.fullmatch(done.out).groups() == ("2", "14", "0")
        assert files(tmp_path / "dir") == {"a": b"content", "b/c": b"content"}
        assert [tuple(job) for job in transfer.jobs] == [
            (("http", "h", 80), "/a", "a"),
            (("http", "h", 80), "/b/c?d", "b/c"),
        ]
        assert all(type(job) is Job for job in transfer.jobs)

    def test_a_list_becomes_files(self, run, tmp_path):
        (tmp_path / "list").write_bytes(b"\xef\xbb\xbf# two\r\nhttp://h/a x y\r\n\r\nhttp://g/b\r\n")
        done = run("-i", str(tmp_path / "list"))
        assert (done.status, done.err) == (0, "")
        assert set(files(tmp_path / "dir")) == {"x y", "g/b"}

    def test_a_list_from_standard_input(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"http://h/a\n")))
        assert run("-i", "-").status == 0
        assert set(files(tmp_path / "dir")) == {"a"}

    def test_an_empty_list_is_no_failure(self, run, tmp_path):
        (tmp_path / "list").write_bytes(b"# nothing\n")
        done = run("-i", str(tmp_path / "list"))
        assert done.status == 0
        assert SUMMARY.fullmatch(done.out).groups() == ("0", "0", "0")

    def test_options_reach_the_transfer(self, run, transfer):
        run(
            "http://h/a",
            "--timeout",
            "5",
            "--connect-timeout",
            "0.5",
            "-H",
            "X-A: 1",
            "--header",
            "x-b:2: 3 ",
        )
        assert transfer.options == {
            "timeout": 5.0,
            "connect_timeout": 0.5,
            "ssl_context": None,
            "headers": [("X-A", " 1"), ("x-b", "2: 3 ")],
            "proxy": None,
            "decode": False,
        }

    def test_defaults(self, run, transfer):
        run("http://h/a")
        assert transfer.options == {
            "timeout": 60.0,
            "connect_timeout": 30.0,
            "ssl_context": None,
            "headers": [],
            "proxy": None,
            "decode": False,
        }

    def test_an_authority_of_ones_own(self, run, transfer, tmp_path):
        trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
        assert run("https://h/a", "--cacert", str(tmp_path / "ca.pem")).status == 0
        context = transfer.options["ssl_context"]
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1

    def test_fields_from_a_file(self, run, transfer, tmp_path):
        (tmp_path / "fields").write_text("Authorization: Bearer x\n\nX-A: 1\n")
        assert run("http://h/a", "-H", f"@{tmp_path / 'fields'}").status == 0
        assert transfer.options["headers"] == [("Authorization", " Bearer x"), ("X-A", " 1")]

    def test_quiet_prints_failures_only(self, run, transfer):
        transfer.outcomes["/b"] = 500
        done = run("-q", "http://h/a", "http://h/b")
        assert (done.status, done.out) == (1, "")
        assert done.err == "httpio: http://h/b: 500 Internal Server Error\n"


class TestProxy:
    @pytest.mark.parametrize("url", ["http://proxy.example:3128", "https://proxy.example", "socks5h://[::1]:1080/"])
    def test_by_its_url(self, run, transfer, url):
        if url.startswith("socks"):
            pytest.importorskip("socksio")
        assert run("http://h/a", "--proxy", url).status == 0
        assert str(Proxy.of(transfer.options["proxy"])) == str(Proxy(url))

    def test_with_a_password(self, run, transfer):
        assert run("http://h/a", "--proxy", "http://user:p%40ss@proxy.example").status == 0
        assert Proxy.of(transfer.options["proxy"]).password == "p@ss"

    def test_of_the_environment(self, run, transfer, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://user:p%40ss@proxy.example")
        assert run("http://h/a").status == 0
        assert transfer.options["proxy"] is None
        assert run("http://h/a", "--proxy-from-environment").status == 0
        assert transfer.options["proxy"]("http://h").password == "p@ss"

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "proxy.example:3128",
            "s3cret",
            "user:s3cret@proxy.example:3128",
            "ftp://user:s3cret@proxy.example",
            "http://",
            "http://user:s3cret@",
            "http://user:s3cret@proxy.example:x",
            "http://user:s3cret@proxy.example:0",
            "http://user:s3cret@proxy.example/path",
            "http://user:s3cret@proxy.example?query",
            "http://user:s3cret%zz@proxy.example",
            "http://user:s3@cret@proxy.example",
            "http://user:s3cret@proxy example",
            "http://user:s3cret\r\nX: y@proxy.example",
            "http://user:s3cret@[::1",
            "socks5://user@proxy.example",
            "socks4://user:s3cret@proxy.example",
        ],
    )
    def test_a_bad_url(self, run, transfer, tmp_path, value):
        done = run("http://h/a", "--proxy", value)
        assert (done.status, done.out) == (2, "")
        assert re.fullmatch(r"httpio: --proxy: .+\n", done.err)
        assert not any(part in done.err for part in ("s3cret", "cret@"))
        assert transfer.jobs == []
        assert not (tmp_path / "dir").exists()

    def test_a_bad_variable(self, run, transfer, tmp_path, monkeypatch):
        monkeypatch.setenv("https_proxy", "ftp://user:s3cret@proxy.example")
        done = run("http://h/a", "https://h/b", "--proxy-from-environment")
        assert (done.status, done.out) == (2, "")
        assert re.fullmatch(r"httpio: .*https_proxy.*\n", done.err)
        assert "s3cret" not in done.err
        assert transfer.jobs == []
        assert not (tmp_path / "dir").exists()

    def test_a_bad_variable_that_is_not_needed(self, run, monkeypatch):
        monkeypatch.setenv("https_proxy", "ftp://user:s3cret@proxy.example")
        assert run("http://h/a", "--proxy-from-environment").status == 0
        assert run("https://h/a").status == 0

    def test_both_ways_to_name_one(self, run, transfer):
        done = run("http://h/a", "--proxy", "http://user:s3cret@proxy.example", "--proxy-from-environment")
        assert done.status == 2
        assert "s3cret" not in done.err
        assert transfer.jobs == []


class TestClientCertificate:
    @pytest.fixture
    def identity(self, tmp_path):
        certificate = trustme.CA().issue_cert("client.example")
        names = {"cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem", "both": tmp_path / "both.pem"}
        certificate.cert_chain_pems[0].write_to_path(names["cert"])
        certificate.private_key_pem.write_to_path(names["key"])
        certificate.private_key_and_cert_chain_pem.write_to_path(names["both"])
        names |= {"other": tmp_path / "other.pem", "locked": tmp_path / "locked.pem"}
        trustme.CA().issue_cert("other.example").private_key_pem.write_to_path(names["other"])
        key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        names["locked"].write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"s3cret")))
        return SimpleNamespace(**{name: str(path) for name, path in names.items()})

    def test_in_two_files_or_one(self, run, transfer, identity):
        for arguments in (("--cert", identity.cert, "--key", identity.key), ("--cert", identity.both)):
            assert run("https://h/a", *arguments).status == 0
            context = transfer.options["ssl_context"]
            assert context.verify_mode is ssl.CERT_REQUIRED
            assert context.check_hostname

    def test_beside_an_authority(self, run, transfer, identity):
        assert run("https://h/a", "--cert", identity.both, "--cacert", identity.cert).status == 0
        assert transfer.options["ssl_context"].verify_mode is ssl.CERT_REQUIRED

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--cert", "/nonexistent/file"],
            ["--cert", "/"],
            ["--cert", __file__],
            ["--cert", "{cert}"],
            ["--cert", "{key}"],
            ["--cert", "{cert}", "--key", "/nonexistent/file"],
            ["--cert", "{cert}", "--key", __file__],
            ["--cert", "{cert}", "--key", "{other}"],
            ["--cert", "{cert}", "--key", "{locked}"],
            ["--key", "{key}"],
            ["--cert", "{both}", "--cacert", "/nonexistent/file"],
        ],
    )
    def test_bad_files(self, run, transfer, tmp_path, identity, arguments):
        done = run("https://h/a", *(argument.format(**vars(identity)) for argument in arguments))
        assert (done.status, done.out) == (2, "")
        line = done.err.splitlines()[-1]
        assert re.match(r"httpio( get)?: .*--(cert|key|cacert)", line)
        assert "Traceback" not in done.err
        assert transfer.jobs == []
        assert not (tmp_path / "dir").exists()


class TestCompressed:
    def test_it_decodes(self, run, transfer):
        run("http://h/a", "--compressed")
        assert transfer.options["decode"] is True


class TestFailures:
    @pytest.mark.parametrize(
        ("outcome", "line"),
        [
            (404, "404 Not Found"),
            (304, "304 Not Modified"),
            (301, "301 Moved Permanently"),
            (599, "status 599"),
            (ConnectionClosed("the peer closed after 5 of 7 bytes"), "the peer closed after 5 of 7 bytes"),
            (ConnectionTimedOut(), "The connection timed out."),
            (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
            (OSError(28, "No space left on device", "dir/a"), "No space left on device: dir/a"),
            (ValueError(), "ValueError"),
            (ConnectionClosed("evil \x1b[2J\r\n\u202e\x9b name"), r"evil \x1b[2J\r\n\u202e\x9b name"),
        ],
    )
    def test_one_line_each_and_the_rest_goes_on(self, run, transfer, tmp_path, outcome, line):
        transfer.outcomes["/b?x"] = outcome
        done = run("http://h/a", "http://h:81/b?x", "http://h/c")
        assert done.status == 1
        assert done.err == f"httpio: http://h:81/b?x: {line}\n"
        assert SUMMARY.fullmatch(done.out).groups() == ("2", "14", "1")
        assert set(files(tmp_path / "dir")) == {"h/a", "h/c"}

    def test_a_request_is_told_by_its_path(self, monkeypatch, run, transfer):
        job = Job(Origin("http", "h", 80), Request("GET", "/x"), "x")
        monkeypatch.setattr(transfer, "result", lambda *_: Result(job, 404))
        assert run("http://h/a").err == "httpio: http://h/x: 404 Not Found\n"

    def test_a_status_of_success_is_needed(self, run, transfer):
        transfer.outcomes = {"/a": ConnectionClosed(), "/b": ConnectionClosed()}
        done = run("http://h/a", "http://h/b")
        assert done.status == 1
        assert len(done.err.splitlines()) == 2
        assert SUMMARY.fullmatch(done.out).groups() == ("0", "0", "2")


SECRET = "http://jane:secret@proxy.example:3128"


class TestBadUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["http://h/a", "-i", "-"],
            ["http://h/a", "--timeout", "0"],
            ["http://h/a", "--timeout", "-1"],
            ["http://h/a", "--timeout", "inf"],
            ["http://h/a", "--timeout", "nan"],
            ["http://h/a", "--timeout", "x"],
            ["http://h/a", "--insecure"],
            ["http://h/a", "-H", "no colon s3cret"],
            ["http://h/a", "-H", "X Y: s3cret"],
            ["http://h/a", "-H", ": s3cret"],
            ["http://h/a", "-H", "X: s3cret\r\nY: z"],
            ["http://h/a", "-H", "X: s3cret\u2028"],
            ["http://h/a", "-H", "Content-Length: 5"],
            ["http://h/a", "-H", "transfer-encoding: chunked"],
            ["http://h/a", "-H", "Range: bytes=0-1"],
            ["http://h/a", "-H", "@/nonexistent/file"],
            ["http://h/a", "--cacert", "/nonexistent/file"],
            ["http://h/a", "--cacert", __file__],
            ["-i", "/nonexistent/list"],
            ["-i", "/"],
            ["http://h/"],
            ["ftp://h/a"],
            ["http://user:s3cret@h/a"],
            ["http://h/a", "http://h/a"],
            ["http://h/\udcff"],
        ],
    )
    def test_exit_status_2_and_nothing_is_touched(self, run, transfer, tmp_path, arguments):
        done = run(*arguments)
        assert done.status == 2
        assert done.out == ""
        assert done.err
        assert "s3cret" not in done.err
        assert "Traceback" not in done.err
        assert transfer.jobs == []
        assert not (tmp_path / "dir").exists()

    def test_every_bad_line_is_told_before_anything_is_transferred(self, run, transfer, tmp_path):
        lines = [
            "http://h/a",
            "http://h/../x",
            "",
            "http://h/b /etc/passwd",
            "http://h/a",
            "# x",
            "http://h/c\x1b[m",
        ]
        (tmp_path / "list").write_text("\n".join(lines))
        done = run("-i", str(tmp_path / "list"))
        assert done.status == 2
        assert re.findall(r"^httpio: line (\d+): ", done.err, re.MULTILINE) == ["2", "4", "5", "7"]
        assert done.err.splitlines()[-1] == "httpio: nothing was transferred: 4 of the lines cannot be used"
        assert "\x1b" not in done.err
        assert transfer.jobs == []

    def test_a_folder_that_cannot_be_used(self, run, transfer, tmp_path):
        (tmp_path / "dir").write_bytes(b"")
        done = run("http://h/a", directory=tmp_path / "dir" / "\x1bx")
        assert done.status == 2
        assert re.fullmatch(r"httpio: cannot write to the folder .*dir/\\x1bx: Not a directory\n", done.err)
        assert transfer.jobs == []

    @pytest.mark.parametrize(
        "given",
        [
            ["get", "http://h/a", "-x", SECRET],
            ["get", "http://h/a", f"-x{SECRET}"],
            ["get", "http://h/a", f"--proxxy={SECRET}"],
            ["get", "http://h/a", "--proxy-user", SECRET],
            ["get", "http://h/a", "--timeout", SECRET],
            [SECRET],
            ["--proxy", SECRET, "get", "http://h/a"],
        ],
    )
    def test_what_is_not_known_is_not_shown(self, given, capsys):
        """It may hold a password."""
        assert main(given) == 2
        assert "secret" not in capsys.readouterr().err

    def test_no_command(self, capsys):
        assert main([]) == 2
        assert main(["put"]) == 2
        assert "usage: httpio" in capsys.readouterr().err


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    assert main(["get", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--cacert", "--cert", "--key", "--proxy URL", "--proxy-from-environment", "--compressed"):
        assert option in out
    assert "130" in out
    assert main(["--version"]) == 0
    assert re.fullmatch(r"httpio \S.*\n", capsys.readouterr().out)


class TestInterrupt:
    def test_temporary_files_go_and_the_summary_comes(self, run, transfer, tmp_path):
        transfer.outcomes = {"/b": 404, "/c": KeyboardInterrupt()}
        done = run(*(f"http://h/{x}" for x in "abcd"))
        assert done.status == 130
        assert SUMMARY.fullmatch(done.out).groups() == ("1", "7", "1")
        assert files(tmp_path / "dir") == {"a": b"content"}
        assert transfer.ended

    def test_between_two_objects(self, run, transfer, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(progress_module.Progress, "step", interrupt)
        assert run("http://h/a", "http://h/b").status == 130
        assert transfer.ended
        assert len(transfer.jobs) == 1

    def test_while_the_list_is_read(self, run, monkeypatch):
        class Terminal:
            def readline(self, _):
                raise KeyboardInterrupt

        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Terminal()))
        assert run("-i", "-").status == 130

    @pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
    def test_by_the_signal(self, tmp_path):
        program = """
import os, signal, sys
from httpio.cli import get, main
from httpio.bulk.report import Result
def transfer(jobs, *, sink, **options):
    for number, job in enumerate(jobs):
        if number == 1:
            sink.open(job.name).write(b"half")
            os.kill(os.getpid(), signal.SIGINT)
        yield Result(job, 200, path=sink.store(job.name, b"x"))
get.transfer = transfer
sys.exit(main(["get", "http://h/a", "http://h/b/c", "http://h/d", "-d", sys.argv[1]]))
"""
        command = [sys.executable, "-c", program, str(tmp_path)]
        # Ignored signals are inherited: a shell that runs tests in the background has SIGINT ignored.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert done.returncode == 130
        assert SUMMARY.fullmatch(done.stdout)
        assert done.stderr == ""
        assert "a" in files(tmp_path)
        assert set(files(tmp_path)) <= {"a", "b/c"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestProgress:
    def test_a_bar_on_a_terminal(self, run, transfer, monkeypatch):
        pytest.importorskip("tqdm")
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        transfer.outcomes["/b"] = 404
        assert run("http://h/a", "http://h/b").status == 1
        assert "2/2" in terminal.getvalue()
        assert "httpio: http://h/b: 404 Not Found\n" in terminal.getvalue()

    @pytest.mark.parametrize("option", ["-q", "--no-progress"])
    def test_none_when_not_wanted(self, run, monkeypatch, option):
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        assert run("http://h/a", option).status == 0
        assert terminal.getvalue() == ""

    def test_one_hint_without_tqdm(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        assert run("http://h/a", "http://h/b").status == 0
        assert terminal.getvalue().count("\n") == 1
        assert "httpio[progress]" in terminal.getvalue()

    def test_no_hint_where_there_is_no_terminal(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm", None)
        assert run("http://h/a").err == ""


def test_a_reader_that_has_gone_is_no_failure(tmp_path):
    program = """
import sys
from httpio.cli import get, main
get.transfer = lambda jobs, **options: iter(())
sys.stdin.read()
sys.exit(main(["get", "http://h/a", "-d", sys.argv[1]]))
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    child.stdout.close()
    child.stdin.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(60) == 0


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "httpio", "get"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: httpio get [options] (URL... | -i LIST)")


def test_summary():
    assert str(Summary(1, 5, 1, 0.0)) == "1 object, 5 bytes, 1 failure, 0.00 s, 0 objects/s"
    assert str(Summary(10, 5, 0, 2.0)) == "10 objects, 5 bytes, 0 failures, 2.00 s, 5 objects/s"
    assert Summary(3, 0, 0, 2.0).rate == 1.5


def test_a_result_is_ok_when_complete():
    assert Result("x", 200).ok
    assert Result("x", 299).ok
    assert not Result("x", 300).ok
    assert not Result("x", 199).ok
    assert not Result("x").ok
    assert not Result("x", 200, error=ConnectionClosed()).ok
