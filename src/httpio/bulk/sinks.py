"""Where objects go: `FolderSink` puts each into a file, under its final name only when it is complete."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from httpio.bulk.names import check_name

__all__ = ["FolderSink", "Writer"]

Buffer = bytes | bytearray | memoryview

# Where the system can, folders are held open and files named relative to them: a shorter walk for each call,
# and no way for a symbolic link to be put in between.
_RELATIVE = {os.open, os.mkdir, os.rename, os.unlink} <= os.supports_dir_fd
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_FOLDERS_HELD = 128


class FolderSink:
    """Files below one folder.

    A file is written under a random temporary name (``.httpio-`` and 16 hexadecimal digits) in the folder of
    its final name, with the mode that the umask gives, and then renamed: a file that was there before is
    replaced by a complete one or not at all. Folders are made as needed. After a failure, and after `close`,
    no temporary file is left. The data is not forced to the disk: a file may be short after a loss of power.

    *folder* itself may be a symbolic link; one in the place of a folder below it is refused, whether it leads
    out or not. (On Windows it is looked for first, which leaves a moment for it to appear, and junctions are
    not seen.)

    Names use ``/`` and follow `names.check_name`. For one thread at a time.
    """

    objects: int
    """Files complete so far."""

    bytes: int
    """Bytes in these."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Make *folder* where it is missing, and try whether a file can be made in it. Raises OSError when
        not."""
        self.objects = 0
        self.bytes = 0
        self._path = os.path.join(os.fspath(folder), "")
        self._writers: set[Writer] = set()
        self._folders: dict[str, _Folder] = {}
        os.makedirs(self._path, exist_ok=True)
        self._root = _Folder("", os.open(self._path, _FOLDER)) if _RELATIVE else _Folder(self._path, None)
        self._closed = False
        try:
            self.open("x").abort()
        except BaseException as exc:
            self.close()
            if isinstance(exc, OSError):
                exc.filename = self._path
            raise

    def store(self, name: str, content: Buffer) -> Path:
        """Put *content* into the file *name*, whole; returns its path.

        Raises ValueError for a refused name, and OSError, with the file's final path as ``filename``, for the
        rest.
        """
        writer = self.open(name)
        if content:
            writer.write(content)
        return writer.commit()

    def open(self, name: str) -> Writer:
        """A `Writer` for the file *name*, whose content comes in pieces. Raises as `store` does."""
        if self._closed:
            raise ValueError("the sink is closed")
        check_name(name)
        parents, _, leaf = name.rpartition("/")
        folder = self._folders.get(parents) if parents else self._root
        return Writer(self, self._enter(parents) if folder is None else folder, leaf, self._path + name)

    def close(self) -> None:
        """Abort the writers that are still open. Nothing can be stored any more. May be called again."""
        for writer in list(self._writers):
            writer.abort()
        if not self._closed:
            self._closed = True
            for folder in (self._root, *self._folders.values()):
                folder.release()
            self._folders.clear()

    def __enter__(self) -> FolderSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enter(self, parents: str) -> _Folder:
        """The folder *parents*, made where it is missing; it and those above it are held for the files to
        come."""
        folder = self._root
        path = ""
        for component in parents.split("/"):
            path = f"{path}/{component}" if path else component
            below = self._folders.get(path)
            if below is None:
                below = folder.enter(component, self._path + path)
                if len(self._folders) >= _FOLDERS_HELD:
                    self._folders.pop(next(iter(self._folders))).release()
                self._folders[path] = below
            folder = below
        return folder


class Writer:
    """One file on its way into a `FolderSink`: `write` its pieces, then `commit` or `abort`.

    When `write` or `commit` fails, the writer has aborted itself.
    """

    def __init__(self, sink: FolderSink, folder: _Folder, leaf: str, path: str) -> None:
        """Made by `FolderSink.open`."""
        self._sink = sink
        self._folder = folder
        self._path = path
        self._final = folder.prefix + leaf
        self._temporary = f"{folder.prefix}.httpio-{os.urandom(8).hex()}"
        self._descriptor = -1
        self._size = 0
        folder.users += 1
        sink._writers.add(self)
        try:
            # Kept by the sink before it exists, so that an interrupt at any moment leaves nothing behind.
            self._descriptor = os.open(self._temporary, _FILE, 0o666, dir_fd=folder.descriptor)
        except OSError as exc:
            # Not made by us, so not ours to remove.
            self._end()
            exc.filename = path
            raise
        except BaseException:
            self.abort()
            raise

    def write(self, data: Buffer) -> None:
        """Add *data*, all of it."""
        descriptor = self.fileno()
        try:
            size = data.nbytes if isinstance(data, memoryview) else len(data)
            written = os.write(descriptor, data)
            if written < size:
                with memoryview(data).cast("B") as view:
                    while written < size:
                        written += os.write(descriptor, view[written:])
            self._size += size
        except BaseException as exc:
            self._fail(exc)
            raise

    def commit(self) -> Path:
        """Give the file its final name, in the place of one that is there; returns its path."""
        descriptor = self.fileno()
        folder = self._folder
        try:
            # Closed before the rename: some file systems report only now that the disk is full.
            self._descriptor = -1
            os.close(descriptor)
            parent = folder.descriptor
            os.replace(self._temporary, self._final, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException as exc:
            self._fail(exc)
            raise
        self._end()
        self._sink.objects += 1
        self._sink.bytes += self._size
        return Path(self._path)

    def abort(self) -> None:
        """Remove what was written. Does nothing after `commit` or `abort`."""
        if self in self._sink._writers:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder.descriptor)
            self._end()

    def fileno(self) -> int:
        """The descriptor of the file, for `os.splice` and its like. Raises ValueError after the end."""
        if self._descriptor < 0:
            raise ValueError("the file is closed")
        return self._descriptor

    def _fail(self, exc: BaseException) -> None:
        self.abort()
        if isinstance(exc, OSError):
            # The caller knows the file by its final path only.
            exc.filename = self._path

    def _end(self) -> None:
        self._sink._writers.discard(self)
        self._folder.release()


class _Folder:
    """A folder that files are put in: held open, or known by its path (*prefix*) only."""

    __slots__ = ("descriptor", "prefix", "users")

    def __init__(self, prefix: str, descriptor: int | None) -> None:
        self.prefix = prefix
        self.descriptor = descriptor
        self.users = 1
        """The sink and each open writer; the last one closes the descriptor."""

    def release(self) -> None:
        self.users -= 1
        if self.users == 0 and self.descriptor is not None:
            os.close(self.descriptor)

    def enter(self, component: str, path: str) -> _Folder:
        """The folder *component* below this one, made where it is missing. *path* is for errors."""
        try:
            if self.descriptor is None:
                return self._enter_by_path(component)
            return _Folder("", self._open_below(component))
        except OSError as exc:
            exc.filename = path
            if exc.errno in (errno.ENOTDIR, errno.ELOOP):
                exc.strerror = "A symbolic link or a file is in the place of this folder"
            raise

    def _open_below(self, component: str) -> int:
        flags = _FOLDER | getattr(os, "O_NOFOLLOW", 0)
        try:
            return os.open(component, flags, dir_fd=self.descriptor)
        except FileNotFoundError:
            # Another process may be quicker.
            with suppress(FileExistsError):
                os.mkdir(component, dir_fd=self.descriptor)
            return os.open(component, flags, dir_fd=self.descriptor)

    def _enter_by_path(self, component: str) -> _Folder:
        path = self.prefix + component
        with suppress(FileExistsError):
            os.mkdir(path)
        if os.path.islink(path) or not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return _Folder(os.path.join(path, ""), None)
