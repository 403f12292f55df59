import gzip
import io
import os
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest
from mutate import mutations
from small_cifar10 import SMALL, batches, python2_pickle, write_binary, write_python

from minimix import files
from minimix.data import cifar10
from minimix.errors import DataError

WRITERS = {"python": write_python, "binary": write_binary}


def read(path):
    return cifar10.read(path, images_per_batch=SMALL)


def refusal(path):
    """The one line with which `path` is refused."""
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return archive


# ------------------------------------------------------------------ what is read


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_pixel_and_label_of_either_layout(tmp_path, layout, packed):
    path = WRITERS[layout](tmp_path)
    if packed:
        path = pack(path, tmp_path / "packed.tar.gz")
    dataset = read(path)

    assert dataset.train_images.shape == (5 * SMALL, 32, 32, 3)
    assert dataset.test_images.shape == (SMALL, 32, 32, 3)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int64
    for i, (data, labels) in enumerate(batches()):
        part = slice(i * SMALL, (i + 1) * SMALL)
        images = dataset.train_images[part] if i < 5 else dataset.test_images
        np.testing.assert_array_equal(
            dataset.train_labels[part] if i < 5 else dataset.test_labels, labels
        )
        # The red of the first row of pixels comes first, the blue of the last row last.
        np.testing.assert_array_equal(images[:, 0, :, 0], data[:, :32])
        np.testing.assert_array_equal(images[:, 31, :, 2], data[:, -32:])
        np.testing.assert_array_equal(images[:, 3, 7, 1], data[:, 1024 + 3 * 32 + 7])
    assert dataset.class_names[3] == "cat"
    assert dataset.n_classes == 10


def test_a_pickle_saved_again_by_a_newer_numpy(tmp_path):
    folder = write_python(tmp_path)
    before = read(folder).fingerprint
    for i, protocol in enumerate((3, 4)):
        data, labels = batches()[i]
        content = pickle.dumps({"data": data, "labels": labels.tolist()}, protocol)
        assert b"_core.multiarray" in content
        (folder / cifar10.PYTHON.files[i]).write_bytes(content)
    assert read(folder).fingerprint == before


def test_fingerprint_sees_every_array(tmp_path):
    folder = write_binary(tmp_path)
    whole = read(folder).fingerprint
    assert whole == read(write_python(tmp_path)).fingerprint
    for name, offset in (
        ("data_batch_3.bin", 0),
        ("data_batch_1.bin", 5),
        ("test_batch.bin", 3073),
    ):
        content = bytearray((folder / name).read_bytes())
        content[offset] ^= 1
        (folder / name).write_bytes(content)
        changed = read(folder).fingerprint
        assert changed != whole
        whole = changed


def test_the_real_set():
    path = cifar10.find()
    if path is None:
        pytest.skip("CIFAR-10 is not on this machine (set MINIMIX_DATA to its folder)")
    dataset = cifar10.read(path)
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), [1000] * 10)
    totals = dataset.train_images.reshape(50_000, -1).sum(0, dtype=np.int64).reshape(-1, 3)
    np.testing.assert_allclose(totals.mean(0) / 50_000 / 255, cifar10.MEAN, atol=1e-4)
    some = dataset.train_images[:5000].reshape(-1, 3)
    np.testing.assert_allclose(some.std(0) / 255, cifar10.STD, atol=0.005)
    # An image turned or with its planes mixed up would not be smooth in all three directions.
    some = dataset.train_images[:1000].astype(float)
    across, down = abs(np.diff(some, axis=2)).mean(), abs(np.diff(some, axis=1)).mean()
    assert max(across, down) < 20
    assert abs(across - down) < 2


# ------------------------------------------------------------------ what is damaged


@pytest.mark.parametrize("layout", WRITERS)
def test_a_missing_batch(tmp_path, layout):
    folder = WRITERS[layout](tmp_path)
    name = cifar10.LAYOUTS[layout == "binary"].files[2]
    (folder / name).unlink()
    assert f"{name} is missing" in refusal(folder)
    assert f"{name} is missing" in refusal(pack(folder, tmp_path / "packed.tar.gz"))


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("keep", [0, 1, 2, 100, 30_000, -1])
def test_a_truncated_batch(tmp_path, layout, keep):
    folder = WRITERS[layout](tmp_path)
    file = folder / cifar10.LAYOUTS[layout == "binary"].files[4]
    content = file.read_bytes()[:keep]
    file.write_bytes(content)
    message = refusal(folder)
    assert str(file) in message
    assert "truncated" in message
    assert f"{len(content):,} bytes; expected" in message


@pytest.mark.parametrize("layout", WRITERS)
def test_a_batch_of_another_size(tmp_path, layout):
    folder = WRITERS[layout](tmp_path)
    with pytest.raises(DataError, match="expected"):
        cifar10.read(folder)  # ten thousand images to a batch


@pytest.mark.parametrize("label", [10, 11, 255])
def test_a_label_that_no_class_has(tmp_path, label):
    data, labels = batches()[1]
    labels[7] = label
    expected = rf"data_batch_2: image 7 has label {label}; expected 0 to 9"
    folder = write_python(tmp_path)
    (folder / "data_batch_2").write_bytes(python2_pickle(data, labels))
    with pytest.raises(DataError, match=expected):
        read(folder)
    folder = write_binary(tmp_path)
    content = bytearray((folder / "data_batch_2.bin").read_bytes())
    content[7 * 3073] = label
    (folder / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(DataError, match=expected.replace("batch_2", "batch_2.bin")):
        read(folder)


GOOD = {"data": np.zeros((SMALL, 3072), np.uint8), "labels": [0] * SMALL}


@pytest.mark.parametrize(
    "batch",
    [
        [],
        {},
        {**GOOD, "labels": [0] * (SMALL - 1)},
        {**GOOD, "labels": ["cat"] * SMALL},
        {**GOOD, "labels": [10**30] * SMALL},
        {**GOOD, "data": np.zeros((SMALL, 3071), np.uint8)},
        {**GOOD, "data": np.zeros((SMALL, 3072), np.int16)},
        {**GOOD, "data": np.zeros((SMALL, 3072), object)},
        {**GOOD, "data": np.asfortranarray(GOOD["data"])},
        {**GOOD, "data": [[0] * 3072] * SMALL},
    ],
    ids=range(10),
)
def test_a_pickle_of_something_else(tmp_path, batch):
    folder = write_python(tmp_path)
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, 4))
    assert "data_batch_1" in refusal(folder)


def test_a_file_too_large_to_be_a_batch(tmp_path, monkeypatch):
    folder = write_binary(tmp_path)
    monkeypatch.setattr(cifar10, "LARGEST_BATCH", 50_000)
    assert "61,460 bytes; expected at most 50,000" in refusal(folder)


# ------------------------------------------------------------------ what is hostile


class Run:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("where", ["alone", "among the labels", "as the array's bytes"])
def test_a_pickle_that_would_act_is_refused_before_it_acts(tmp_path, protocol, where):
    trace = tmp_path / "it acted"
    folder = write_python(tmp_path)
    call = Run(os.mkdir, str(trace))
    if where == "as the array's bytes":
        bomb = pickle.dumps(call, protocol)[2 if protocol else 0 : -1]
        content = (folder / "data_batch_1").read_bytes()
        at = content.index(b"T\x00")
        content = content[:at] + bomb + content[at:]
    else:
        bomb = call if where == "alone" else {**GOOD, "labels": [call, *GOOD["labels"][1:]]}
        content = pickle.dumps(bomb, protocol)
    (folder / "data_batch_1").write_bytes(content)
    message = refusal(folder)
    assert "mkdir" in message or "_codecs" in message
    assert "refused" in message
    assert not trace.exists()
    pickle.loads(pickle.dumps(call))  # and it would have
    assert trace.exists()


@pytest.mark.parametrize(
    "name",
    [
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"c__builtin__\neval\n",
        b"cnumpy\nload\n",
        b"cnumpy\nndarray.tofile\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"cnumpy._core.multiarray\nfromfile\n",
        b"\x8c\x05numpy\x8c\x0dndarray.dumps\x93",
    ],
)
def test_only_four_names_are_known(tmp_path, name):
    folder = write_python(tmp_path)
    (folder / "data_batch_1").write_bytes(b"\x80\x04" + name + b".")
    assert "refused" in refusal(folder)


def test_nothing_of_numpy_is_reached(tmp_path):
    """An array of a size that no file backs costs nothing."""
    folder = write_python(tmp_path)
    content = (folder / "data_batch_1").read_bytes()
    claimed = content.replace(b"M\x14\x00M\x00\x0c\x86", b"J\xff\xff\xff\x7fM\x00\x0c\x86")
    assert claimed != content
    (folder / "data_batch_1").write_bytes(claimed)
    assert "damaged" in refusal(folder)


def test_a_few_bytes_cannot_claim_memory(tmp_path):
    """An entry numbered 16,777,215 in the unpickler's memo."""
    folder = write_python(tmp_path)
    (folder / "data_batch_1").write_bytes(b"\x80\x02}r\xff\xff\xff\x00.")
    tracemalloc.start()
    assert "data_batch_1" in refusal(folder)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def tar_of(tmp_path, *members):
    """An archive of all batches, after the given (TarInfo, content) members."""
    archive = tmp_path / "hostile.tar.gz"
    folder = write_binary(tmp_path)
    with tarfile.open(archive, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        tar.add(folder, arcname=folder.name)
    return archive


@pytest.mark.parametrize(
    "name",
    ["/tmp/evil", "../evil", "cifar-10-batches-bin/../../evil", "..\\evil", "C:/evil", "C:\\evil"],
)
def test_an_archive_that_points_outside_itself(tmp_path, name):
    archive = tar_of(tmp_path, (tarfile.TarInfo(name), b"evil"))
    assert "points outside" in refusal(archive)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_an_archive_with_a_link_or_a_device(tmp_path, kind):
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.type, member.linkname = kind, "/etc/passwd"
    assert "link or a device" in refusal(tar_of(tmp_path, (member, b"")))


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
    archive = tar_of(tmp_path, (tarfile.TarInfo("bomb"), bytes(10**6)))
    monkeypatch.setattr(cifar10, "LARGEST_ARCHIVE", 10**6)
    assert "more than 1,000,000 bytes" in refusal(archive)


def test_damaged_archives(tmp_path):
    archive = tar_of(tmp_path)
    content = archive.read_bytes()
    for damage, expected in (
        (content[: len(content) // 2], "is truncated: "),
        (content[:1000] + bytes(1000) + content[2000:], "is damaged ("),
        (content[:20], "is a damaged gzip file; expected the path of CIFAR-10 or CIFAR-100"),
    ):
        archive.write_bytes(damage)
        assert expected in refusal(archive)


def assert_whole_or_one_line(path, named):
    try:
        line = f"{named}: {len(read(path).train_labels)} images"
    except DataError as error:
        line = str(error)
    assert line.startswith(str(named))
    assert "\n" not in line


def test_the_bytes_of_an_archive_changed_anywhere(tmp_path):
    """One line, whatever is damaged, inside the compression or below it."""
    whole = tar_of(tmp_path)
    plain, packed = gzip.decompress(whole.read_bytes()), whole.read_bytes()
    archive = tmp_path / "changed.tar.gz"
    for damaged in (
        *mutations(packed, 100, seed=0),
        *(gzip.compress(inner, 1) for inner in mutations(plain, 100, seed=1)),
    ):
        archive.write_bytes(damaged)
        assert_whole_or_one_line(archive, archive)


@pytest.mark.parametrize("layout", WRITERS)
def test_the_bytes_of_a_batch_changed_anywhere(tmp_path, layout):
    file = WRITERS[layout](tmp_path) / cifar10.LAYOUTS[layout == "binary"].files[0]
    for damaged in mutations(file.read_bytes(), 150, seed=2):
        file.write_bytes(damaged)
        assert_whole_or_one_line(file.parent, file)


def test_only_what_minimix_has_fetched_is_to_be_removed(nowhere):
    mine, theirs = write_binary(files.cache_folder()), write_binary(nowhere / "data")
    for folder in (mine, theirs):
        (folder / "data_batch_2.bin").write_bytes(b"short")
    assert refusal(mine).endswith(f"; remove {mine}, and it will be downloaded again")
    line = refusal(theirs)
    assert line.endswith("truncated or damaged; give the path of another copy as `data`")
    assert "remove" not in line


# ------------------------------------------------------------------ where it is found


def test_nowhere(nowhere):
    assert cifar10.find() is None
    assert cifar10.find(nowhere) is None
    assert cifar10.find(nowhere / "no such folder") is None
    (nowhere / "data").write_text("a file, and no archive")
    assert cifar10.find() is None


@pytest.mark.parametrize("layout", WRITERS)
def test_named_by_a_path(nowhere, layout):
    folder = WRITERS[layout](nowhere / "some where")
    assert cifar10.find(folder) == folder
    assert cifar10.find(folder.parent) == folder
    renamed = folder.rename(nowhere / "mine")
    assert cifar10.find(renamed) == renamed
    archive = pack(renamed, nowhere / "x.tgz")
    assert cifar10.find(archive) == archive
    assert cifar10.find("~/mine") == renamed


@pytest.mark.parametrize(
    "place",
    ["cache", "here/data", "home/data", "here", "home/.keras/datasets", "keras 3"],
)
def test_usual_places(nowhere, monkeypatch, place):
    parent = {
        "cache": files.cache_folder(),
        "here/data": nowhere.parent / "here" / "data",
        "here": nowhere.parent / "here",
        "keras 3": nowhere / ".keras" / "datasets" / "cifar-10-batches-py-target",
    }.get(place, nowhere.parent / place)
    folder = write_python(parent)
    found = cifar10.find()
    assert found is not None
    assert found.resolve() == folder.resolve()
    other = write_binary(nowhere / "chosen")
    monkeypatch.setenv("MINIMIX_DATA", str(other.parent))
    assert cifar10.find() == other
    monkeypatch.setenv("MINIMIX_DATA", str(nowhere / "empty"))
    assert cifar10.find().resolve() == folder.resolve()


def test_an_archive_in_a_usual_place(nowhere, monkeypatch):
    archive = nowhere / "data" / cifar10.BINARY.archive
    archive.parent.mkdir()
    pack(write_binary(nowhere / "elsewhere"), archive)
    assert cifar10.find() == archive
    monkeypatch.setenv("MINIMIX_DATA", str(archive))
    assert cifar10.find() == archive
    monkeypatch.delenv("MINIMIX_DATA")
    assert len(read(archive).test_labels) == SMALL
    assert cifar10.find(archive.parent) == archive
    folder = write_python(archive.parent)  # unpacked is quicker
    assert cifar10.find() == folder
