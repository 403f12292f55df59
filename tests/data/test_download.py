"""The download against a server on this machine that misbehaves in every way seen in practice."""

import errno
import hashlib
import http.server
import os
import re
import socket
import tarfile
import threading
import time
from functools import partial

import pytest
from small_cifar10 import SMALL, write_python

from minimix import files
from minimix.data import cifar10, download
from minimix.errors import DataError

# Shrunk so that a crawl is noticed in half a second.
PATIENCE = download.Patience(answer=5.0, window=0.5, slowest=100_000.0)


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at /good, and at each other path in the way that the path names."""

    daemon_threads = True
    content: bytes
    asked: list  # (path, Range header) of each request

    def handle_error(self, request, client_address):
        """A client that has seen enough closes the connection: that is no error."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Not to standard error."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.close_connection = True
        getattr(self, self.path.strip("/").replace("-", "_"))()

    def answer(self, body, status=200, kind="application/gzip", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self):
        content = self.server.content
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked:
            return self.answer(content)
        start = int(asked[1])
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.answer(content[start:], 206, Content_Range=span)

    def ignores_ranges(self):
        self.answer(self.server.content)

    def truncates(self):
        content = self.server.content
        self.answer(content[: len(content) // 3], length=len(content))

    def stalls(self):
        content = self.server.content
        self.answer(content[:10_000], length=len(content))
        self.wfile.flush()
        time.sleep(1.5)

    def trickles(self):
        self.answer(b"", length=len(self.server.content))
        for i in range(200):
            self.wfile.write(self.server.content[i * 100 : (i + 1) * 100])
            self.wfile.flush()
            time.sleep(0.01)

    def is_slow(self):
        content = self.server.content
        self.answer(b"", length=len(content))
        for start in range(0, len(content), 20_000):
            self.wfile.write(content[start : start + 20_000])
            self.wfile.flush()
            time.sleep(0.01)

    def is_down(self):
        self.answer(b"busy", 503)

    def moved_away(self):
        self.answer(b"not found", 404)

    def sends_html(self):
        self.answer(b"<html>please log in</html>", kind="text/html; charset=utf-8")

    def sends_html_as_an_archive(self):
        self.answer(b"<html>please log in</html>".ljust(len(self.server.content)))

    def sends_wrong_bytes(self):
        content = bytearray(self.server.content)
        content[-100] ^= 1
        self.answer(bytes(content))

    def sends_another_size(self):
        self.answer(self.server.content + b"and more")

    def sends_more_than_promised(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.content + bytes(3_000_000))

    def sends_another_range(self):
        content = self.server.content
        if "Range" in self.headers:
            self.answer(content, 206, Content_Range=f"bytes 0-{len(content) - 1}/{len(content)}")
        else:
            self.truncates()

    def hangs(self):
        time.sleep(1.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        tar.add(write_python(folder), arcname=cifar10.PYTHON.folder)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content = (folder / "a.tar.gz").read_bytes()
        server.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def fetch(server, nowhere, tmp_path, monkeypatch):
    """Fetch from these paths of the server, in turn; what was said is in `fetch.said`."""
    monkeypatch.setenv("no_proxy", "*")
    server.asked = []

    def fetch(*paths, **keywords):
        urls = tuple(path if "://" in path else server.url + path for path in paths)
        sha256 = hashlib.sha256(server.content).hexdigest()
        archive = download.Archive("a.tar.gz", len(server.content), sha256, urls)
        arguments = {"archive": archive, "patience": PATIENCE, "say": fetch.said.append}
        return download.fetch(fetch.folder, **{**arguments, **keywords})

    fetch.said, fetch.folder = [], tmp_path / "cache"
    fetch.part = fetch.folder / "a.tar.gz.part"
    return fetch


def assert_whole(folder):
    dataset = cifar10.read(folder, images_per_batch=SMALL)
    assert len(dataset.train_labels) == 5 * SMALL
    kept = {path.name for path in folder.parent.iterdir()}
    assert kept == {"cifar-10-batches-py", "a.tar.gz.lock"}
    assert {path.name for path in folder.iterdir()} == set(cifar10.PYTHON.files)


def failure(call, *arguments, **keywords):
    """The one line with which it fails; nothing that could be taken for CIFAR-10 is left."""
    with pytest.raises(DataError) as caught:
        call(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    assert cifar10.find() is None
    return message


# ------------------------------------------------------------------ the way it should go


def test_fetches_unpacks_and_reports(fetch, server):
    told = []
    folder = fetch("good", progress=lambda done, total: told.append((done, total)))
    assert_whole(folder)
    assert folder == fetch.folder / "cifar-10-batches-py"
    size = len(server.content)
    assert told[-1] == (size, size)
    assert told == sorted(told)


def test_into_the_cache_by_default(fetch, nowhere):
    fetch.folder = None
    assert fetch("good") == cifar10.find() == files.cache_folder() / "cifar-10-batches-py"


FAULTS = {
    "truncates": "ended after {third:,} of {size:,} bytes",
    "stalls": "timed out",
    "trickles": "kB/s",
    "is-down": "status 503",
    "moved-away": "status 404",
    "sends-html": "sent a page (text/html)",
    "sends-html-as-an-archive": "not gzip",
    "sends-wrong-bytes": "sha256",
    "sends-another-size": "{more:,} bytes, expected {size:,}",
    "sends-more-than-promised": "sent more than {size:,} bytes",
    "hangs": "timed out",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_next_mirror_where_one_fails(fetch, server, fault):
    told = []
    assert_whole(fetch(fault, "good", progress=lambda done, total: told.append(done)))
    reasons = [line for line in fetch.said if line.startswith("leaving 127.0.0.1")]
    assert len(reasons) == 1
    size = len(server.content)
    assert FAULTS[fault].format(size=size, third=size // 3, more=size + 8) in reasons[0]
    assert max(told) <= size + 2**18  # it stops soon after the end


def test_the_next_mirror_where_one_resumes_elsewhere(fetch, server):
    assert_whole(fetch("truncates", "sends-another-range", "good"))
    assert f"sent bytes 0-{len(server.content) - 1}" in fetch.said[2]
    assert f"expected bytes {len(server.content) // 3}-" in fetch.said[2]


def test_where_all_are_slow_it_takes_what_there_is(fetch):
    patience = download.Patience(answer=2.0, window=0.05, slowest=5e6)
    assert_whole(fetch("is-slow", patience=patience))
    assert any("kB/s" in line for line in fetch.said)


def test_a_mirror_that_refuses_connections(fetch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert_whole(fetch(f"http://127.0.0.1:{port}/", "good"))


# ------------------------------------------------------------------ resuming


@pytest.mark.parametrize("fault", ["truncates", "stalls"])
def test_resumes_where_the_last_mirror_stopped(fetch, server, fault):
    assert_whole(fetch(fault, "good"))
    had = len(server.content) // 3 if fault == "truncates" else 10_000
    assert ("/good", f"bytes={had}-") in server.asked


def test_resumes_what_an_earlier_process_left(fetch, server):
    fetch.folder.mkdir()
    fetch.part.write_bytes(server.content[:5000])
    assert_whole(fetch("good"))
    assert server.asked[-1] == ("/good", "bytes=5000-")


def test_starts_over_where_ranges_are_ignored(fetch, server):
    assert_whole(fetch("truncates", "ignores-ranges"))
    # It was asked for the rest, and sent all. (Another thread asks whether it answers at all.)
    assert ("/ignores-ranges", f"bytes={len(server.content) // 3}-") in server.asked


def test_a_part_that_is_whole_already(fetch, server):
    fetch.folder.mkdir()
    fetch.part.write_bytes(server.content)
    assert_whole(fetch("good"))
    assert all(asked is None for _, asked in server.asked)


@pytest.mark.parametrize("left", ["wrong", "too long", "wrong and whole"])
def test_a_part_of_something_else_is_thrown_away(fetch, server, left):
    fetch.folder.mkdir()
    size = len(server.content)
    fetch.part.write_bytes(
        {"wrong": bytes(5000), "too long": bytes(size + 1), "wrong and whole": bytes(size)}[left]
    )
    assert_whole(fetch("good"))


# ------------------------------------------------------------------ giving up


def test_nothing_is_opened_before_its_checksum_holds(fetch, monkeypatch):
    monkeypatch.setattr(cifar10, "read_archive", lambda path: pytest.fail("opened"))
    message = failure(fetch, "sends-wrong-bytes")
    assert "sha256" in message
    assert "give its path as `data`" in message
    assert not fetch.part.exists()


def test_a_mirror_with_wrong_bytes_is_not_asked_again(fetch, server):
    failure(fetch, "sends-wrong-bytes", "truncates")
    fetched = [path for path, _ in server.asked]
    assert fetched.count("/sends-wrong-bytes") <= 2  # once to see whether it answers


def test_what_has_come_is_kept_for_the_next_try(fetch, server):
    message = failure(fetch, "truncates")
    assert "ended after" in message
    assert fetch.part.read_bytes() == server.content[: len(server.content) // 3]
    assert_whole(fetch("good"))


@pytest.mark.parametrize("fault", ["is-down", "sends-html", "hangs", "http://127.0.0.1:9/"])
def test_no_network_is_soon_noticed(fetch, fault):
    patience = download.Patience(answer=0.4, window=0.3, slowest=1.0)
    started = time.monotonic()
    message = failure(fetch, fault, fault + "?again" if "9" in fault else fault, patience=patience)
    assert time.monotonic() - started < 5 * patience.answer
    assert "cannot be downloaded" in message
    assert not fetch.part.exists()


def test_a_name_server_that_does_not_answer(fetch, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(10) or [])
    patience = download.Patience(answer=0.2)
    started = time.monotonic()
    assert "no answer in 0.2 s" in failure(fetch, "http://somewhere.invalid/", patience=patience)
    assert time.monotonic() - started < 8  # which is not waited for


def test_the_default_patience_ends_within_ten_seconds():
    assert download.Patience().answer <= 9


def test_offline(fetch, server, monkeypatch):
    monkeypatch.setenv("MINIMIX_OFFLINE", "1")
    assert "MINIMIX_OFFLINE" in failure(fetch, "good")
    assert server.asked == []
    monkeypatch.setenv("MINIMIX_OFFLINE", "0")
    assert_whole(fetch("good"))


def test_the_users_own_mirror_comes_first(fetch, server, monkeypatch):
    monkeypatch.setenv("MINIMIX_CIFAR10_URL", server.url + "good")
    assert_whole(fetch("ignores-ranges"))
    paths = [path for path, _ in server.asked]
    assert paths.count("/good") == 2  # asked whether it answers, then fetched
    assert paths.count("/ignores-ranges") <= 1
    monkeypatch.setenv("MINIMIX_CIFAR10_URL", "ftp://somewhere/cifar")
    with pytest.raises(DataError, match="MINIMIX_CIFAR10_URL is 'ftp://somewhere/cifar'; expected"):
        fetch("good")


# ------------------------------------------------------------------ the disk


def test_a_full_disk_while_downloading(fetch, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_on_a_full_disk(path, mode):
        return Full(open(path, mode)) if str(path).endswith(".part") else open(path, mode)

    monkeypatch.setattr(download, "open", open_on_a_full_disk, raising=False)
    message = failure(fetch, "good")
    assert os.strerror(errno.ENOSPC) in message
    assert str(fetch.folder) in message
    assert "MB" in message


def test_a_full_disk_while_unpacking(fetch, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert os.strerror(errno.ENOSPC) in failure(fetch, "good")
    kept = {path.name for path in fetch.folder.iterdir()}
    assert kept == {"a.tar.gz.part", "a.tar.gz.lock"}
    assert_whole(fetch("is-down", "good"))  # from the .part, once there is room


def test_an_empty_folder_is_no_data_set(fetch):
    (fetch.folder / "cifar-10-batches-py").mkdir(parents=True)
    assert_whole(fetch("good"))


def test_a_folder_that_cannot_be_made(fetch, tmp_path):
    (tmp_path / "a file").write_text("in the way")
    fetch.folder = tmp_path / "a file" / "cache"
    assert "cannot be stored in" in failure(fetch, "good")


def test_two_at_once_download_once(fetch, server, monkeypatch):
    started = threading.Event()

    def slow(path, of=cifar10.read_archive):
        started.set()
        time.sleep(0.3)
        return of(path)

    monkeypatch.setattr(cifar10, "read_archive", slow)
    found = []
    first = threading.Thread(target=lambda: found.append(fetch("good")))
    first.start()
    assert started.wait(10)
    found.append(fetch("good"))
    first.join()
    assert found[0] == found[1]
    assert_whole(found[0])
    assert len(server.asked) == 2  # the first asked whether it answers, then fetched
    assert any("waiting" in line for line in fetch.said)


# ------------------------------------------------------------------ what the name of a set means


def test_load(nowhere, server, monkeypatch):
    from minimix import data

    monkeypatch.setattr(cifar10, "read", partial(cifar10.read, images_per_batch=SMALL))
    monkeypatch.setattr(data.shapes10, "load", partial(data.shapes10.load, 50, 10))
    said = []
    monkeypatch.setenv("MINIMIX_OFFLINE", "1")
    assert data.load(say=said.append).name == "shapes10"
    assert len(said) == 1
    assert "MINIMIX_OFFLINE" in said[0]
    assert "shapes10" in said[0]
    assert "\n" not in said[0]
    with pytest.raises(DataError, match="MINIMIX_OFFLINE"):
        data.load("cifar10")
    with pytest.raises(
        DataError, match="nowhere is not there; expected auto, cifar10, shapes10, or"
    ):
        data.load("nowhere")
    assert data.load("shapes10").name == "shapes10"

    folder = write_python(nowhere / "data")
    for name in ("auto", "cifar10", str(folder), str(folder.parent)):
        dataset = data.load(name)
        assert dataset.name == "cifar10"
        assert dataset.source == str(folder)
    (folder / "test_batch").unlink()
    with pytest.raises(DataError, match="test_batch is missing"):
        data.load("auto")


def test_load_downloads_what_is_not_found(fetch, server, monkeypatch):
    from minimix import data

    sha256 = hashlib.sha256(server.content).hexdigest()
    archive = download.Archive("a.tar.gz", len(server.content), sha256, (server.url + "good",))
    monkeypatch.setattr(cifar10, "read", partial(cifar10.read, images_per_batch=SMALL))
    monkeypatch.setattr(download, "fetch", partial(download.fetch, archive=archive))
    said, told = [], []
    first = data.load(say=said.append, progress=lambda done, total: told.append(done))
    assert first.name == "cifar10"
    assert told[-1] == len(server.content)
    asked = len(server.asked)
    assert data.load("cifar10").fingerprint == first.fingerprint
    assert len(server.asked) == asked
