"""What people have: pictures of every kind, folders with all that gets into them, and readers that fail."""

import io
import itertools
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from helpers import SMALL, make_pictures, one_line
from torch.utils.data import DataLoader

from resnet_nb.data import load, streamed
from resnet_nb.data.pictures import read_image
from resnet_nb.errors import InputError, ReadingFailed

GRAY = np.arange(0, 256, 17, dtype=np.uint8).reshape(4, 4)
DEEP = GRAY.astype(np.uint16) * 257  # the same levels in 16 bits


def saved(image, form, **settings):
    content = io.BytesIO()
    image.save(content, form, **settings)
    content.seek(0)
    return content


def read(content, warned="error"):
    """What is made of a file with this content."""
    with tempfile.NamedTemporaryFile() as file, warnings.catch_warnings():
        warnings.simplefilter(warned)
        file.write(content.getvalue())
        file.flush()
        return read_image(file.name)


def seen(content):
    """What arrives: (H, W, 3)."""
    return np.asarray(read(content))


@pytest.fixture
def pictures(tmp_path):
    """cat and dog, 20 and 4 images of 16x16, all of them different."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "d" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(tmp_path / "d" / part / name / f"{i}.png")
    return tmp_path / "d"


BOTH = pytest.mark.parametrize("augmentation", [None, SMALL], ids=["in memory", "from files"])

# ---- files


def palette():
    image = PIL.Image.new("P", (2, 2))
    image.putpalette([255, 0, 0, 0, 255, 0])
    return image


DEPTHS = {
    "16-bit PNG": lambda: saved(PIL.Image.fromarray(DEEP), "PNG"),
    "16-bit TIFF": lambda: saved(PIL.Image.fromarray(DEEP), "TIFF"),
    "16-bit TIFF, big-endian": lambda: saved(PIL.Image.frombytes("I;16B", (4, 4), DEEP.astype(">u2").tobytes()), "TIFF"),
    "16-bit PGM": lambda: io.BytesIO(b"P5 4 4 65535\n" + DEEP.astype(">u2").tobytes()),
    "12-bit PGM": lambda: io.BytesIO(b"P5 4 4 4095\n" + (GRAY.astype(int) * 4095 // 255).astype(">u2").tobytes()),
    "white is 0": lambda: saved(PIL.Image.fromarray(65535 - DEEP), "TIFF", tiffinfo={262: 0}),
    "8 bits": lambda: saved(PIL.Image.fromarray(GRAY), "PNG"),
    "4 bits": lambda: saved(PIL.Image.fromarray(GRAY).quantize(16), "PNG", bits=4),
}


@pytest.mark.parametrize("kind", DEPTHS)
def test_gray_of_any_depth_arrives_with_its_levels(kind):
    np.testing.assert_array_equal(seen(DEPTHS[kind]()), np.stack([GRAY] * 3, 2))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_without_a_range_are_refused(kind):
    with pytest.raises(InputError, match="no fixed range; save it with 8 or 16 bits"):
        read(saved(PIL.Image.fromarray(DEEP.astype(kind)), "TIFF"))


def png(depth, color, rows, **chunks):
    """A PNG of 1x2 or 2x2 pixels, which Pillow cannot write: rows of one byte or of six."""
    width = 1 if color else 8 // depth
    data = b"".join(b"\0" + rows[i : i + len(rows) // 2] for i in (0, len(rows) // 2))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, 2, depth, color, 0, 0, 0))]
    parts += [(name.encode(), content) for name, content in chunks.items()] + [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    )


CLEAR = {
    "RGBA": lambda: saved(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG"),
    "LA": lambda: saved(PIL.Image.new("LA", (2, 2), (200, 0)), "PNG"),
    "palette, one clear color": lambda: saved(palette(), "PNG", transparency=0),
    "palette, an alpha each": lambda: saved(palette(), "PNG", transparency=bytes([0, 128])),
    "RGB with a clear color": lambda: saved(PIL.Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
    "L with a clear level": lambda: saved(PIL.Image.new("L", (2, 2), 7), "PNG", transparency=7),
    "1 bit with a clear level": lambda: saved(PIL.Image.new("1", (2, 2), 0), "PNG", transparency=0),
    "16 bits with a clear level": lambda: saved(PIL.Image.fromarray(np.full((2, 2), 999, np.uint16)), "PNG", transparency=999),
    "2 bits with a clear level": lambda: png(2, 0, bytes([0b01010101]) * 2, tRNS=b"\0\1"),
    "4 bits with a clear level": lambda: png(4, 0, bytes([0x11]) * 2, tRNS=b"\0\1"),
    "16 bits RGB with a clear color": lambda: png(16, 2, bytes(range(1, 7)) * 2, tRNS=bytes(range(1, 7))),
    "WebP": lambda: saved(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "WEBP", lossless=True),
    "TIFF": lambda: saved(PIL.Image.new("RGBA", (2, 2), (9, 9, 9, 0)), "TIFF"),
}


@pytest.mark.parametrize("kind", CLEAR)
def test_what_is_transparent_is_white(kind):
    assert (seen(CLEAR[kind]()) == 255).all()


def test_a_drawing_on_a_transparent_ground_is_seen():
    image = PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 2), (200, 0, 100, 255))  # covers
    image.putpixel((3, 0), (0, 0, 0, 51))  # a fifth of black on white
    want = np.full((4, 4, 3), 255)
    want[2, 1], want[0, 3] = (200, 0, 100), 204
    np.testing.assert_array_equal(seen(saved(image, "PNG")), want)


TURNED = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
FORMS = {  # of one picture, 3x4, with a tag 274 in its metadata
    "PNG": lambda exif: saved(PIL.Image.fromarray(GRAY[:3]), "PNG", exif=exif),
    "WebP": lambda exif: saved(PIL.Image.fromarray(GRAY[:3]).convert("RGB"), "WEBP", exif=exif, lossless=True),
    "TIFF": lambda exif: saved(PIL.Image.fromarray(GRAY[:3]), "TIFF", tiffinfo={274: exif[274]}),
    "TIFF, packed": lambda exif: saved(
        PIL.Image.fromarray(GRAY[:3]), "TIFF", tiffinfo={274: exif[274]}, compression="tiff_lzw"
    ),
    "TIFF, 16 bits": lambda exif: saved(PIL.Image.fromarray(DEEP[:3]), "TIFF", tiffinfo={274: exif[274]}),
    "TIFF, alpha": lambda exif: saved(PIL.Image.fromarray(GRAY[:3]).convert("RGBA"), "TIFF", tiffinfo={274: exif[274]}),
}


@pytest.mark.parametrize("form, orientation", [*itertools.product(FORMS, [1, *TURNED]), ("PNG", 0), ("PNG", 9)])
def test_a_picture_is_turned_as_its_exif_says(form, orientation):
    """The eight orientations of EXIF; others are not defined."""
    exif = PIL.Image.Exif()
    exif[274] = orientation
    turned = TURNED.get(orientation, np.array)(GRAY[:3])
    np.testing.assert_array_equal(seen(FORMS[form](exif)), np.stack([turned] * 3, 2))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_damaged_metadata_cost_no_picture(form):
    exif = PIL.Image.Exif()
    exif[274] = 1
    whole, rng = exif.tobytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.integers(6, len(whole))] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = saved(PIL.Image.new("RGB", (8, 8), (9, 99, 199)), form, exif=bytes(damaged))
        assert read(content, "ignore").size == (8, 8)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"])
def test_a_damaged_file_gives_a_picture_or_one_line_that_names_it(form, tmp_path, capfd):
    """Any byte of the first 200 changed, any length: nothing but InputError, whatever Pillow raises."""
    rng, whole = np.random.default_rng(0), saved(PIL.Image.new("RGB", (8, 8), (9, 99, 199)), form).getvalue()
    path = tmp_path / "broken"
    for _ in range(150):
        content = bytearray(whole)
        content[rng.integers(min(len(content), 200))] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content)) if rng.random() < 0.3 else None])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert read_image(path).mode == "RGB"
        except InputError as error:
            assert str(path) in str(error) and len(str(error).splitlines()) == 1


def test_too_many_pixels_are_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 50)
    PIL.Image.new("L", (10, 10)).save(tmp_path / "most.png")
    PIL.Image.new("L", (10, 11)).save(tmp_path / "more.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_image(tmp_path / "most.png")
    with pytest.raises(InputError, match="more.png has too many pixels .100 at most.*; make it smaller"):
        read_image(tmp_path / "more.png")


@BOTH
def test_damaged_metadata_cost_no_picture_and_no_warning(pictures, augmentation, capfd):
    """An entry of the EXIF that points behind its end, as in some files of ImageNet; one of the wrong type; a palette."""
    odd = [struct.pack("<HHII", 0x011A, 5, 1, 90000), struct.pack("<HHI4s", 0x0112, 2, 4, b"abc\0")]
    for i, entry in enumerate(odd):
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
        PIL.Image.effect_noise((20, 16), 9).save(pictures / "test" / "cat" / f"odd{i}.jpg", exif=exif)
    colors = PIL.Image.effect_noise((20, 16), 9).quantize(4)
    colors.save(pictures / "train" / "cat" / "odd.png", transparency=bytes([0, 128]))
    data = load(pictures, augmentation=augmentation)
    assert sum(len(labels) for _, labels in data.test_batches(4)) == 6
    assert capfd.readouterr().err == ""


def test_a_training_set_of_large_pictures_warns_of_nothing(pictures, monkeypatch, capfd):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 3000)
    for path in pictures.rglob("*.png"):
        PIL.Image.open(path).resize((64, 64)).save(path)  # 4,096 pixels
    for augmentation in (None, SMALL):
        next(load(pictures, augmentation=augmentation).test_batches(4))
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_not_called_damaged(pictures):
    path = pictures / "train" / "cat" / "0.png"
    path.chmod(0)
    with pytest.raises(InputError, match=r"cannot read .*0\.png \(Permission denied\)$"):
        load(pictures)


# ---- folders


SYSTEM = ["._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.jpg"]
SYSTEM_FOLDERS = ["@eaDir", "__MACOSX", ".ipynb_checkpoints", "lost+found", "$RECYCLE.BIN"]


@BOTH
def test_what_systems_add_is_neither_a_class_nor_an_image_nor_told(pictures, augmentation, capsys):
    want = load(pictures, augmentation=augmentation).fingerprint
    for part in ("train", "test"):
        for folder in (pictures / part, pictures / part / "cat"):
            for name in SYSTEM:
                (folder / name).write_bytes(b"\0\5\26\7")
            for name in SYSTEM_FOLDERS:
                (folder / name).mkdir()
                (folder / name / "0.png").write_bytes(b"\0\5\26\7")
    assert load(pictures, augmentation=augmentation).fingerprint == want
    assert capsys.readouterr().err == ""


@BOTH
def test_what_is_left_out_is_told_with_its_number(pictures, augmentation, capsys):
    cat = pictures / "train" / "cat"
    (cat / "2024").mkdir()
    for i in range(3):
        (cat / f"{i}.png").rename(cat / "2024" / f"{i}.png")
    (cat / "3.png").rename(cat / "IMG_3.HEIC")
    (cat / "4.png").rename(cat / "4.jfif")
    (cat / "5.png").rename(cat / "5")
    (cat / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(cat / "pipe.png")  # to open it would wait for ever
    (pictures / "train" / "loose.png").write_bytes(b"")
    assert len(load(pictures, augmentation=augmentation).train_labels) == 14
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: left out of {pictures / 'train'}: 1 in no class folder (loose.png), cat: ")
    for what in (
        "3 in subfolders",
        "1 of no known kind of image (.heic)",
        "(.jfif)",
        "(no extension)",
        "1 broken link",
        "1 special file",
    ):
        assert what in line


def test_the_note_on_many_classes_stays_one_short_line(pictures, capsys):
    for i in range(50):
        for part in ("train", "test"):
            (pictures / part / f"class{i}").mkdir()
            (pictures / part / f"class{i}" / "0.png").write_bytes((pictures / part / "cat" / "0.png").read_bytes())
            (pictures / part / f"class{i}" / "0.json").write_bytes(b"{}")
    load(pictures)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and max(map(len, lines)) < 500 and all("and 45 more" in line for line in lines)


@BOTH
def test_names_count_in_either_unicode_form(pictures, augmentation):
    for part, form in (("train", "NFC"), ("test", "NFD")):
        (pictures / part / "dog").rename(pictures / part / unicodedata.normalize(form, "Bär"))
    data = load(pictures, augmentation=augmentation)
    assert data.classes == (unicodedata.normalize("NFC", "Bär"), "cat")
    assert data.test_labels.tolist() == [0, 0, 1, 1]


def test_two_folders_that_look_the_same_are_refused(pictures):
    for form in ("NFC", "NFD"):
        (pictures / "train" / unicodedata.normalize(form, "Bär")).mkdir()
    with pytest.raises(InputError, match="two Unicode forms"):
        load(pictures)


@BOTH
def test_names_that_are_not_utf8_are_names(pictures, augmentation):
    name = os.fsdecode(b"B\xe4r")
    for part in ("train", "test"):
        (pictures / part / "dog").rename(pictures / part / name)
        (pictures / part / "cat" / "0.png").rename(pictures / part / "cat" / f"{name}.png")
    root = pictures.with_name(name)
    pictures.rename(root)
    data = load(root, augmentation=augmentation)
    assert data.classes == (name, "cat") and len(data.fingerprint) == 64
    assert len(data.train_labels) == 20


def test_all_files_that_cannot_be_decoded_are_told_at_once(pictures):
    for i in (3, 5):
        (pictures / "train" / "cat" / f"{i}.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        load(pictures)
    assert "2 of 24 images cannot be used" in one_line(caught) and "cat/3.png" in one_line(caught)
    assert "cat/5.png" in one_line(caught)


def test_sizes_are_counted(pictures):
    PIL.Image.new("RGB", (7, 9)).save(pictures / "train" / "dog" / "3.png")
    with pytest.raises(InputError, match=r"23 of 20x16 \(.*cat/0.png\), 1 of 7x9 \(.*dog/3.png\); the recipe imagenet"):
        load(pictures)


@BOTH
def test_what_reading_takes_from_pictures_is_told(pictures, augmentation, capsys):
    """White drawings on white, all clear ones, 12 bits in 16, pages: each with the first file."""
    cat = pictures / "train" / "cat"
    for i, color in enumerate(("white", "black")):
        image = PIL.Image.new("RGBA", (20, 16), (0, 0, 0, 0))
        image.paste(color, (3, 3, 9, 9 + i))
        image.save(cat / f"{i}.png")
    PIL.Image.new("RGBA", (20, 16), (0, 0, 0, 0)).save(cat / "2.png")
    gray = np.random.default_rng(0).integers(0, 4096, (16, 20), dtype=np.uint16)
    gray[0, 0] = 4095
    PIL.Image.fromarray(gray).save(cat / "3.png")
    page = PIL.Image.effect_noise((20, 16), 9)
    page.save(cat / "4.tif", save_all=True, append_images=[page, page])
    load(pictures, augmentation=augmentation)
    told = capsys.readouterr().err
    assert told.count("note: ") == 3 == told.count("\n")
    assert f"16 bits a channel in 1 of {21 + 4 * (not augmentation)} images ({cat / '3.png'}): 65,535 becomes 255" in told
    assert "their highest value, 4,095, 16" in told
    assert f"of 2 of {21 + 4 * (not augmentation)} images ({cat / '0.png'}) nothing but white is seen" in told
    assert f"images ({cat / '4.tif'}) the first of several pages or frames is taken" in told


def test_a_test_image_that_cannot_be_decoded_is_told_before_a_training(pictures):
    path = pictures / "test" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="test/dog/1.png"):
        load(pictures, augmentation=SMALL)


def test_a_folder_without_train_says_what_it_has(pictures):
    (pictures / "train").rename(pictures / "Train")
    with pytest.raises(InputError, match="train is missing; .*; .*d has Train, test$"):
        load(pictures)
    with pytest.raises(InputError, match="has d$"):
        load(pictures.parent)


@BOTH
@pytest.mark.parametrize("others", ["loose", "of another class"])
def test_val_stands_for_a_test_without_the_classes(pictures, augmentation, others, capsys):
    want = load(pictures, augmentation=augmentation)
    (pictures / "test").rename(pictures / "val")
    folder = pictures / "test" / ("images" if others == "of another class" else "")
    folder.mkdir(parents=True)
    PIL.Image.effect_noise((20, 16), 9).save(folder / "0.png")  # as the test images of ImageNet
    np.testing.assert_array_equal(load(pictures, augmentation=augmentation).test_labels, want.test_labels)
    assert capsys.readouterr().err == ""


@BOTH
def test_of_test_and_val_one_is_left_out_with_a_note(pictures, augmentation, capsys):
    shutil.copytree(pictures / "test", pictures / "val")
    (pictures / "val" / "cat" / "0.png").unlink()
    assert len(load(pictures, augmentation=augmentation).test_labels) == 4
    assert (
        capsys.readouterr().err == f"note: the test images are those of {pictures / 'test'}; {pictures / 'val'} is left out\n"
    )


def test_a_class_behind_a_broken_link_is_named(pictures, capsys):
    (pictures / "train" / "bird").symlink_to("not-mounted")
    load(pictures)
    assert "1 in no class folder (bird, a broken link)" in capsys.readouterr().err


def test_ones_own_pictures_count_beside_cifar10(pictures):
    (pictures / "cifar-10-batches-py").mkdir()
    assert load(pictures).classes == ("cat", "dog")


@pytest.mark.parametrize("source", [None, 3, b"d"])
def test_a_source_of_another_type_is_refused(source):
    with pytest.raises(InputError, match="the source of the data is"):
        load(source)


def test_a_folder_that_cannot_be_read_is_named(pictures, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"cannot read .* \(Permission denied\)"):
        load(pictures)


@pytest.mark.parametrize("typed", ["~/d", "~/d/"])
def test_a_home_that_the_shell_left_is_found(pictures, typed, monkeypatch):
    monkeypatch.setenv("HOME", str(pictures.parent))
    assert load(typed).name == "d"


@pytest.mark.parametrize(
    "typed, told", [("", "is ''"), ("~nobody-here/d", "no data at '~nobody-here/d'"), (__file__, "no folder")]
)
def test_a_source_that_is_no_folder_is_refused(typed, told):
    with pytest.raises(InputError, match=told):
        load(typed)


# ---- readers


@pytest.fixture
def files(tmp_path):
    return load(make_pictures(tmp_path / "d", 40, 400), augmentation=SMALL)


def test_replaced_pictures_are_other_data(tmp_path):
    """Names and sizes stay: two pictures of different classes change places, as BMP all of one size."""
    root = make_pictures(tmp_path / "d", 6, 3)
    for path in root.rglob("*.png"):
        PIL.Image.open(path).resize((12, 12)).save(path.with_suffix(".bmp"))
        path.unlink()
    before = load(root, augmentation=SMALL).fingerprint
    a, b = root / "val" / "class0" / "000.bmp", root / "val" / "class1" / "001.bmp"
    first, second = a.read_bytes(), b.read_bytes()
    assert len(first) == len(second) and first != second
    a.write_bytes(second)
    b.write_bytes(first)
    assert load(root, augmentation=SMALL).fingerprint != before


SCRIPT = """
import sys, torch
from resnet_nb.data import Augmentation, load

class Fails(torch.nn.Module):
    def forward(self, image):
        raise KeyError("of a view")

data = load(sys.argv[1], augmentation=Augmentation(shorter_side=(36, 48), crop=32, test_side=36))
test, training = data.test_batches(16), data.stream(8, 0).batches(0, 1000)
next(test), next(training)  # two loops left half way
try:
    next(data.test_batches(16, view=Fails()))
except KeyError as error:
    kept = error  # with the readers in its traceback
sys.exit(7)
"""


def test_a_program_ends_whatever_its_readers_do(tmp_path):
    root = make_pictures(tmp_path / "d", 12, 200)
    ended = subprocess.run([sys.executable, "-c", SCRIPT, root], capture_output=True, encoding="utf-8", timeout=60)
    assert (ended.returncode, ended.stderr) == (7, "")


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_a_failed_reader_says_why(files, error, monkeypatch):
    def fail(*args):
        raise error("line one\nthe cause")

    monkeypatch.setattr(streamed, "read_image", fail)
    with pytest.raises(ReadingFailed, match=r"^a process that reads images failed \(.*the cause\)$"):
        next(files.test_batches(16))


def test_no_room_in_shared_memory_is_told_with_what_helps(files, monkeypatch):
    def fail(*args):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(streamed, "read_image", fail)
    with pytest.raises(ReadingFailed, match=r"no room in /dev/shm .*--shm-size") as caught:
        next(files.test_batches(16))
    one_line(caught)


def test_a_dead_reader_is_told_where_its_batch_is_awaited(files, request):
    """Not in the middle of a step, whatever runs when it dies, in a program without a DataLoader of its own."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.SIGCHLD, before))
    batches = files.stream(8, 0).batches(0, 1000)
    next(batches)
    readers = multiprocessing.active_children()
    assert readers
    for reader in readers:
        os.kill(reader.pid, signal.SIGKILL)
    for reader in readers:
        reader.join(20)
    torch.randn(9).sum()  # a step; the handler of a dead child would raise here
    with pytest.raises(ReadingFailed):
        list(batches)


def test_a_relative_folder_is_found_from_elsewhere(tmp_path, monkeypatch):
    make_pictures(tmp_path / "d", 6, 3)
    monkeypatch.chdir(tmp_path)
    files = load("d", augmentation=SMALL)
    monkeypatch.chdir("/")
    assert len(next(files.test_batches(9))[1]) == 3


def test_the_readers_end_with_their_loop(files, monkeypatch):
    started = []
    ordinary = DataLoader.__iter__
    monkeypatch.setattr(DataLoader, "__iter__", lambda self: started.append(ordinary(self)) or started[-1])
    batches = files.test_batches(16)
    next(batches)
    (readers,) = started
    assert all(worker.is_alive() for worker in readers._workers)
    batches.close()
    assert not any(worker.is_alive() for worker in readers._workers)


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path):
    root = make_pictures(tmp_path / "d", 6, 3)
    PIL.Image.new("RGB", (1, 101)).save(root / "train" / "class0" / "strip.png")
    with pytest.raises(InputError, match="strip.png has 1x101 pixels; cut it"):
        load(root, augmentation=SMALL)
