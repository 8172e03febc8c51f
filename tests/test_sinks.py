"""FolderSink: a file appears whole under its final name, or nothing of it is left."""

import errno
import gc
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from httpio.bulk import sinks
from httpio.bulk.sinks import FolderSink


@pytest.fixture(params=["relative", "by path"])
def how(request, monkeypatch):
    """Both ways to name files: relative to open folders, and by path as on Windows."""
    if request.param == "by path":
        monkeypatch.setattr(sinks, "_RELATIVE", False)
    elif not sinks._RELATIVE:
        pytest.skip("this system has no openat")
    return request.param


@pytest.fixture
def sink(how, tmp_path):
    with FolderSink(tmp_path / "dir") as sink:
        yield sink


def files(folder):
    """Every file below *folder*, temporary ones too, with its content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def open_descriptors():
    gc.collect()  # what other tests have left to the collector must not go in between
    return len(os.listdir("/proc/self/fd"))


class TestStore:
    @pytest.mark.parametrize("content", [b"", b"x", b"x" * 300_000, bytearray(b"abc"), memoryview(b"abc")])
    def test_content_lands_under_its_name(self, sink, tmp_path, content):
        path = sink.store("a.bin", content)
        assert path == tmp_path / "dir" / "a.bin"
        assert files(tmp_path) == {"dir/a.bin": bytes(content)}

    def test_folders_are_made(self, sink, tmp_path):
        for name in ("a/b/c/1", "a/b/c/2", "a/b/3", "a/4", "5", "é x/6"):
            assert sink.store(name, name.encode()).read_bytes() == name.encode()
        assert len(files(tmp_path)) == 6
        assert (sink.objects, sink.bytes) == (6, sum(len(c) for c in files(tmp_path).values()))

    def test_more_folders_than_are_held_open(self, sink, tmp_path, monkeypatch):
        monkeypatch.setattr(sinks, "_FOLDERS_HELD", 3)
        wanted = {f"dir/a{i % 5}/b{i % 7}/c{i % 3}/{i}": b"%d" % i for i in range(200)}
        for name, content in wanted.items():
            sink.store(name.removeprefix("dir/"), content)
        assert files(tmp_path) == wanted
        assert len(sink._folders) <= 3

    def test_a_complete_file_replaces_one(self, sink, tmp_path):
        sink.store("a", b"old")
        with open(tmp_path / "dir" / "a", "rb") as old:
            sink.store("a", b"new")
            # A reader of the old file is not disturbed: it was replaced, not written over.
            assert old.read() == b"old"
        assert files(tmp_path) == {"dir/a": b"new"}

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "/etc/x", "../x", "a/../x", "a//b", "a/", "a/.", "a\x00b", "x" * 256]
    )
    def test_names_that_lead_elsewhere_are_refused(self, sink, tmp_path, name):
        with pytest.raises(ValueError, match="name"):
            sink.store(name, b"x")
        assert files(tmp_path) == {}

    @pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
    def test_the_mode_is_that_of_the_umask(self, sink):
        before = os.umask(0o027)
        try:
            path = sink.store("d/a", b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750

    def test_a_folder_in_the_place_of_the_file_is_an_error(self, sink, tmp_path):
        (tmp_path / "dir" / "a").mkdir()
        with pytest.raises(OSError) as caught:  # noqa: PT011
            sink.store("a", b"x")
        assert caught.value.filename == os.path.join(tmp_path, "dir", "a")
        assert files(tmp_path) == {}

    def test_a_file_in_the_place_of_a_folder_is_an_error(self, sink, tmp_path):
        sink.store("a", b"x")
        with pytest.raises(NotADirectoryError, match="in the place of this folder") as caught:
            sink.store("a/b", b"y")
        assert caught.value.filename == os.path.join(tmp_path, "dir", "a")
        assert files(tmp_path) == {"dir/a": b"x"}


@pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege there")
class TestLinks:
    def test_the_folder_itself_may_be_one(self, how, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "dir").symlink_to(tmp_path / "real")
        with FolderSink(tmp_path / "dir") as sink:
            sink.store("a/b", b"x")
        assert (tmp_path / "real" / "a" / "b").read_bytes() == b"x"

    @pytest.mark.parametrize("name", ["link/a", "link/b/c", "x/link/a"])
    def test_one_below_it_is_not_followed(self, sink, tmp_path, name):
        outside = tmp_path / "outside"
        (outside / "b").mkdir(parents=True)
        (tmp_path / "dir" / "x").mkdir()
        (tmp_path / "dir" / "link").symlink_to(outside)
        (tmp_path / "dir" / "x" / "link").symlink_to(outside)
        with pytest.raises(NotADirectoryError, match="symbolic link"):
            sink.store(name, b"x")
        assert files(outside) == {}

    @pytest.mark.parametrize("there", [True, False])
    def test_one_in_the_place_of_the_file_is_replaced(self, sink, tmp_path, there):
        outside = tmp_path / "outside"
        if there:
            outside.write_bytes(b"precious")
        (tmp_path / "dir" / "a").symlink_to(outside)
        assert not sink.store("a", b"x").is_symlink()
        assert outside.exists() == there
        if there:
            assert outside.read_bytes() == b"precious"


class TestWriter:
    def test_pieces_become_one_file_at_the_commit(self, sink, tmp_path):
        writer = sink.open("d/a")
        writer.write(b"12")
        writer.write(bytearray(b""))
        writer.write(memoryview(b"x34x")[1:3])
        assert "dir/d/a" not in files(tmp_path)
        [temporary] = files(tmp_path)
        assert re.fullmatch(r"dir/d/\.httpio-[0-9a-f]{16}", temporary)
        assert writer.commit() == tmp_path / "dir" / "d" / "a"
        assert files(tmp_path) == {"dir/d/a": b"1234"}
        assert (sink.objects, sink.bytes) == (1, 4)

    def test_buffers_of_other_items_are_counted_in_bytes(self, sink):
        writer = sink.open("a")
        writer.write(memoryview(b"12345678").cast("I"))
        writer.commit()
        assert sink.bytes == 8

    def test_abort_leaves_the_old_file(self, sink, tmp_path):
        sink.store("a", b"old")
        writer = sink.open("a")
        writer.write(b"new")
        writer.abort()
        writer.abort()
        assert files(tmp_path) == {"dir/a": b"old"}

    def test_after_the_end_nothing_can_be_done(self, sink, tmp_path):
        for end in ("commit", "abort"):
            writer = sink.open("a")
            getattr(writer, end)()
            writer.abort()
            for call in (lambda w=writer: w.write(b"x"), writer.commit, writer.fileno):
                with pytest.raises(ValueError, match="closed"):
                    call()
        assert files(tmp_path) == {"dir/a": b""}

    def test_temporary_names_cannot_be_told_in_advance(self, sink, tmp_path):
        for _ in range(20):
            sink.open("a")
        assert len(files(tmp_path)) == 20

    @pytest.mark.parametrize("link", [False, True])
    def test_a_file_of_the_temporary_name_is_left_alone(self, sink, tmp_path, monkeypatch, link):
        monkeypatch.setattr(os, "urandom", bytes)
        foreign = tmp_path / "dir" / ".httpio-0000000000000000"
        (tmp_path / "other").write_bytes(b"other")
        if link:
            foreign.symlink_to(tmp_path / "other")
        else:
            foreign.write_bytes(b"other")
        with pytest.raises(FileExistsError) as caught:
            sink.store("a", b"x")
        assert caught.value.filename == os.path.join(tmp_path, "dir", "a")
        assert foreign.read_bytes() == b"other"
        assert set(files(tmp_path)) == {"other", "dir/.httpio-0000000000000000"}

    def test_a_writer_keeps_its_folder(self, sink, tmp_path, monkeypatch):
        monkeypatch.setattr(sinks, "_FOLDERS_HELD", 2)
        writer = sink.open("a/b/c")
        for i in range(10):
            sink.store(f"f{i}/x", b"")
        writer.write(b"1")
        writer.commit()
        assert files(tmp_path)["dir/a/b/c"] == b"1"

    def test_close_aborts_what_is_open(self, sink, tmp_path):
        sink.store("a/done", b"1")
        writers = [sink.open(name) for name in ("a/x", "y", "b/z")]
        for writer in writers:
            writer.write(b"half")
        sink.close()
        sink.close()
        assert files(tmp_path) == {"dir/a/done": b"1"}
        with pytest.raises(ValueError, match="closed"):
            writers[0].write(b"more")
        with pytest.raises(ValueError, match="closed"):
            sink.store("b", b"")

    def test_short_writes_are_continued(self, sink, tmp_path, monkeypatch):
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
        sink.store("a", bytes(range(256)))
        monkeypatch.undo()
        assert files(tmp_path) == {"dir/a": bytes(range(256))}


@pytest.mark.parametrize("call", ["open", "write", "close", "replace"])
@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
def test_when_a_call_fails_nothing_is_left(how, tmp_path, monkeypatch, call, failure):
    with FolderSink(tmp_path) as sink:
        sink.store("d/a", b"old")
        before = open_descriptors() if sys.platform == "linux" else 0
        real = getattr(os, call)

        def fail_once(*args, **kwargs):
            monkeypatch.setattr(os, call, real)
            if call == "close" or (call == "open" and not isinstance(failure, OSError)):
                # The worst moment: the system has done its part.
                descriptor = real(*args, **kwargs)
                if call == "open":
                    os.close(descriptor)
            raise failure

        monkeypatch.setattr(os, call, fail_once)
        with pytest.raises(type(failure)) as caught:
            sink.store("d/a", b"new")
        if isinstance(failure, OSError):
            assert str(caught.value).endswith(f"No space left on device: {str(tmp_path / 'd' / 'a')!r}")
        assert files(tmp_path) == {"d/a": b"old"}
        assert (sink.objects, sink.bytes) == (1, 3)
        if sys.platform == "linux":
            assert open_descriptors() <= before  # what another test has left may have gone meanwhile
        sink.store("d/a", b"newer")
        assert files(tmp_path) == {"d/a": b"newer"}


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_no_descriptor_is_left_open(how, tmp_path):
    before = open_descriptors()
    with FolderSink(tmp_path / "dir") as sink:
        for i in range(300):
            sink.store(f"{i}/x/{i}", b"1")
        sink.open("open")
        assert open_descriptors() <= before + sinks._FOLDERS_HELD + 2
    assert open_descriptors() == before


class TestOpening:
    def test_the_folder_is_made(self, how, tmp_path):
        FolderSink(tmp_path / "a" / "b").close()
        assert (tmp_path / "a" / "b").is_dir()
        assert files(tmp_path) == {}

    def test_a_file_in_its_place(self, how, tmp_path):
        (tmp_path / "a").write_bytes(b"x")
        with pytest.raises(OSError):  # noqa: PT011
            FolderSink(tmp_path / "a")

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root")
    def test_a_folder_that_cannot_be_written_to(self, how, tmp_path):
        (tmp_path / "a").mkdir(mode=0o500)
        with pytest.raises(PermissionError):
            FolderSink(tmp_path / "a")

    def test_a_folder_where_no_file_can_be_made(self, how, tmp_path, monkeypatch):
        real = os.open

        def refuse(path, flags, *args, **kwargs):
            if flags & os.O_CREAT:
                raise OSError(errno.EROFS, "Read-only file system")
            return real(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match="Read-only") as caught:
            FolderSink(tmp_path / "a")
        assert caught.value.filename == os.path.join(tmp_path, "a", "")


@pytest.mark.skipif(sys.platform != "linux", reason="counts calls by name")
def test_a_small_file_takes_four_calls(tmp_path, monkeypatch):
    calls = []

    def counted(name, function):
        def call(*args, **kwargs):
            calls.append(name)
            return function(*args, **kwargs)

        return call

    with FolderSink(tmp_path) as sink:
        sink.store("d/first", b"x")
        for name in ("open", "write", "close", "replace", "mkdir", "stat", "unlink", "makedirs"):
            monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
        for i in range(10):
            sink.store(f"d/{i}", b"x")
        monkeypatch.undo()
    assert calls == ["open", "write", "close", "replace"] * 10
