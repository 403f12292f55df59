"""Files are whole or not there, locks end with their process, and things have a place."""

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from minimix import errors, files
from minimix.errors import DiskError, MinimixError

POSIX = os.name == "posix"
posix = pytest.mark.skipif(not POSIX, reason="is about POSIX users and permissions")


def fail(number=errno.ENOSPC):
    def raising(*_arguments, **_keywords):
        raise OSError(number, os.strerror(number))

    return raising


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "builtins.open"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path, monkeypatch, call, number
):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(call, fail(number))
        with pytest.raises(DiskError) as error:
            files.write(path, b"new")
    assert str(error.value) == f"cannot write {path}: {os.strerror(number)}"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, interruption):
    def interrupt(*_):
        raise interruption

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(interruption):
        files.write(tmp_path / "x", b"new")
    with pytest.raises(interruption):
        files.write_folder(tmp_path / "y", {"a": b"1"})
    assert names(tmp_path) == []


def test_a_failed_write_that_cannot_tidy_up_says_why_it_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", fail(errno.ENOSPC))
    monkeypatch.setattr("os.unlink", fail(errno.EIO))
    with pytest.raises(DiskError, match=os.strerror(errno.ENOSPC)):
        files.write(tmp_path / "x", b"new")


def test_a_folder_where_a_temporary_file_could_be_is_no_obstacle(tmp_path):
    for name in (".x.tmp", ".minimix-.tmp", "x.tmp", "x.part"):
        (tmp_path / name).mkdir()
    files.write(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "x").mkdir()
    for path in (tmp_path / "x", tmp_path, tmp_path.root and type(tmp_path)(tmp_path.root)):
        with pytest.raises(DiskError, match="cannot write"):
            files.write(path, b"new")
    assert names(tmp_path) == ["x"]


def test_a_name_of_any_length_and_of_bytes_that_are_no_text(tmp_path):
    path = tmp_path / ("n" * 255)
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(DiskError, match=os.strerror(errno.ENAMETOOLONG)):
        files.write(tmp_path / ("n" * 256), b"new")
    if sys.platform.startswith("linux"):
        files.write(tmp_path / os.fsdecode(b"caf\xe9"), b"new")
        assert os.listdir(os.fsencode(tmp_path)).count(b"caf\xe9") == 1


@posix
def test_links_devices_and_permissions_are_respected(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "x", b"old")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640  # as `open` would make it
    (tmp_path / "link").symlink_to("x")
    files.write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "x").read_bytes() == b"new"
    (tmp_path / "null").symlink_to(os.devnull)
    files.write(tmp_path / "null", b"new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_device(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(DiskError, match=os.strerror(errno.ENOSPC)):
        files.write(tmp_path / "full", b"new")


@posix
def test_the_name_reaches_the_disk_too(tmp_path, monkeypatch):
    synced = []
    plain = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda fd: synced.append(os.fstat(fd).st_mode) or plain(fd))
        files.write(tmp_path / "x", b"new")
    assert list(map(stat.S_ISDIR, synced)) == [False, True]

    def only_files(number):
        def fsync(fd):
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr("os.fsync", only_files(errno.EINVAL))  # a file system that cannot
    files.write(tmp_path / "x", b"newer")
    monkeypatch.setattr("os.fsync", only_files(errno.EIO))
    with pytest.raises(DiskError, match=os.strerror(errno.EIO)):
        files.write(tmp_path / "x", b"newest")


def test_a_folder_is_written_whole(tmp_path, monkeypatch):
    files.write_folder(tmp_path / "f", {"a": b"1", "b": b"2"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "f").iterdir()} == {"a": b"1", "b": b"2"}
    with pytest.raises(DiskError, match="cannot write"):
        files.write_folder(tmp_path / "f", {"c": b"3"})
    calls = []

    def second_fails(fd):
        calls.append(fd)
        if len(calls) == 2:
            fail()()

    monkeypatch.setattr("os.fsync", second_fails)
    with pytest.raises(DiskError, match=os.strerror(errno.ENOSPC)):
        files.write_folder(tmp_path / "g", {"a": b"1", "b": b"2"})
    assert names(tmp_path) == ["f"]


def test_what_a_killed_write_left_is_swept_away(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from minimix import files\n"
        "os.replace = lambda *_: os._exit(9)\n"
        "files.write(Path(sys.argv[1]), b'new')"
    )
    (tmp_path / "mine.tmp").write_text("")
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "x"]).returncode == 9
    assert len(names(tmp_path)) == 2
    files.sweep(tmp_path)
    assert names(tmp_path) == ["mine.tmp"]


# ------------------------------------------------------------------ locks


class Busy(Exception):
    pass


def refuse(holder):
    raise Busy(holder)


def test_one_at_a_time(tmp_path):
    path = tmp_path / "l"
    with files.lock(path, refuse), pytest.raises(Busy, match=str(os.getpid())):
        files.lock(path, refuse).__enter__()
    with files.lock(tmp_path / "l", refuse):  # free again
        pass


def test_the_next_one_waits(tmp_path):
    holders, order = [], []

    def second():
        with files.lock(tmp_path / "l", holders.append):
            order.append("second")

    thread = threading.Thread(target=second)
    with files.lock(tmp_path / "l", refuse):
        thread.start()
        while not holders:
            pass
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert holders == [str(os.getpid())]


def test_the_lock_of_a_killed_process_is_none(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from minimix import files\n"
        "with files.lock(Path(sys.argv[1]), print): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "l"]).returncode == 9
    assert (tmp_path / "l").read_text().strip().isdigit()
    with files.lock(tmp_path / "l", refuse):
        pass


def test_a_lock_that_cannot_be_had(tmp_path, monkeypatch):
    (tmp_path / "l").mkdir()
    with pytest.raises(DiskError, match="cannot write"), files.lock(tmp_path / "l", refuse):
        pass
    if POSIX:  # a file system that knows no locks
        monkeypatch.setattr("fcntl.flock", fail(errno.ENOLCK))
        with files.lock(tmp_path / "m", refuse), files.lock(tmp_path / "m", refuse):
            pass


# ------------------------------------------------------------------ where things are kept


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A home, a folder for temporary files, nothing asked for, and nothing warned of yet."""
    import tempfile

    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(errors, "_warned", set())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("MINIMIX_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_cache_follows_the_system(place, monkeypatch):
    home = place / "home"
    monkeypatch.setattr("sys.platform", "linux")
    assert files.cache_folder() == home / ".cache" / "minimix"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert files.cache_folder() == home / "xdg" / "minimix"
    monkeypatch.setattr("sys.platform", "darwin")
    assert files.cache_folder() == home / "Library" / "Caches" / "minimix"
    monkeypatch.setattr("sys.platform", "win32")
    assert files.cache_folder() == home / "minimix"
    monkeypatch.setenv("MINIMIX_CACHE_DIR", str(home / "mine"))
    assert files.cache_folder() == home / "mine"
    monkeypatch.setenv("MINIMIX_CACHE_DIR", "~/mine")
    assert files.cache_folder() == home / "mine"
    assert files.cache_folders() == [home / "mine"]


@posix
@pytest.mark.parametrize("value", ["", "relative", "./here"])
def test_an_empty_or_relative_cache_home_counts_as_none(place, monkeypatch, value):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert files.cache_folder() == place / "home" / ".cache" / "minimix"


@posix
@pytest.mark.parametrize("value", [None, "", "relative"])
def test_no_home_is_looked_up(place, monkeypatch, value):
    import pwd

    monkeypatch.setattr("sys.platform", "linux")
    if value is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", value)
    known = pwd.struct_passwd(("me", "x", 1, 1, "", str(place / "home"), ""))
    with monkeypatch.context() as patch:
        patch.setattr("pwd.getpwuid", lambda _uid: known)
        assert files.cache_folder() == place / "home" / ".cache" / "minimix"

    def unknown(_uid):
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)  # a container that runs as some number
    assert files.home() is None
    assert files.cache_folder() == place / "tmp" / f"minimix-{os.getuid()}"
    with pytest.raises(MinimixError, match="~/x: there is no home folder ~"):
        files.expand("~/x")


def fallback(place, capsys):
    """The folder among the temporary files, and the one line that says so."""
    folder = place / "tmp" / f"minimix-{os.getuid()}"
    assert files.cache_folder() == files.cache_folder() == folder
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("minimix: ")
    assert f"caching in {folder}" in line
    assert "MINIMIX_CACHE_DIR" in line
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    return line


@posix
def test_the_home_of_another_user(place, monkeypatch, capsys):
    monkeypatch.setattr("sys.platform", "linux")
    if os.geteuid() == 0:  # root may write there, but leaves it alone
        os.chown(place / "home", 12345, 12345)
    else:
        (place / "home").chmod(0o500)
    assert "home/.cache/minimix cannot be written" in fallback(place, capsys)
    assert names(place / "home") == []


@posix
def test_a_user_that_does_not_exist(place, monkeypatch, capsys):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("MINIMIX_CACHE_DIR", "~nosuchuser/x")
    assert files.cache_folder() == place / "home" / ".cache" / "minimix"
    (line,) = capsys.readouterr().err.splitlines()
    assert "MINIMIX_CACHE_DIR is ignored: ~nosuchuser/x" in line
    assert names(place) == ["home", "tmp"]


@posix
def test_somebody_elses_temporary_folder_is_not_trusted(place, monkeypatch, capsys):
    """Compiled code that others can replace would be run as this user."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(files, "_user_cache", lambda: None)
    folder = place / "tmp" / f"minimix-{os.getuid()}"
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)
    with pytest.raises(DiskError, match="is not yours alone; set MINIMIX_CACHE_DIR"):
        files.cache_folder()
    assert files.cache_folders() == []
    folder.rmdir()
    (place / "planted").mkdir()
    folder.symlink_to(place / "planted")
    with pytest.raises(DiskError, match="is not yours alone"):
        files.cache_folder()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._get_default_tempdir", fail())
    with pytest.raises(DiskError, match="set MINIMIX_CACHE_DIR"):
        files.cache_folder()


def test_a_tilde_is_a_home_unless_there_is_such_a_file(place):
    assert files.expand("~/a/b") == place / "home" / "a" / "b"
    assert files.expand("~") == place / "home"
    assert files.expand("a/~") == files.Path("a/~")
    (place / "~$draft.png").touch()
    assert files.expand("~$draft.png") == files.Path("~$draft.png")
    if POSIX:
        with pytest.raises(MinimixError, match="~nosuchuser/x: there is no home folder ~nosuch"):
            files.expand("~nosuchuser/x")


def test_a_warning_is_said_once_and_needs_nobody_to_hear_it(monkeypatch, capsys):
    monkeypatch.setattr(errors, "_warned", set())
    for _ in range(2):
        errors.warn("the sky is falling")
    assert capsys.readouterr().err == "minimix: the sky is falling\n"
    monkeypatch.setattr("sys.stderr", None)
    errors.warn("nobody is there")
    assert capsys.readouterr().out == ""
