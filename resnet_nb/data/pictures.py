"""One image file as the networks take it: RGB of 8 bits, upright, on white."""

import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from resnet_nb.errors import InputError, first_line
from resnet_nb.progress import note

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of a TIFF
# Pillow scales the pixels of these PNGs to 8 bits, but not the value that is transparent
TO_8_BITS = {"L;2": lambda v: 85 * v, "L;4": lambda v: 17 * v, "RGB;16B": lambda v: tuple(level >> 8 for level in v)}


class Look(NamedTuple):
    """What reading an image took from it: `brightest` value of 16 bits a channel (else -1); nothing seen; frames left out."""

    brightest: int
    unseen: bool
    framed: bool


def read_image(path: str | Path) -> Image.Image:
    """The image in RGB as a viewer shows it: turned as its EXIF says, with transparent parts on white.

    Of 16 bits a channel, the whole range becomes 0 to 255; of several frames or pages the first one is taken. `info["look"]` is
    a `Look`. Raises InputError naming a file that cannot be decoded, or whose values have no known range (32 bits a channel,
    floating point).
    """
    try:
        with open(path, "rb") as file, Image.open(file) as image:  # of a name Pillow would map turned TIFFs wrongly
            return _in_rgb(image)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        most = f"{2 * Image.MAX_IMAGE_PIXELS:,}"
        raise InputError(f"{path} has too many pixels ({most} at most can be read); make it smaller") from error
    except UnidentifiedImageError as error:
        raise InputError(f"cannot decode {path} (it is empty, or no known kind of image); replace or delete it") from error
    except Exception as error:  # on damaged files Pillow raises all kinds
        if getattr(error, "errno", None) is not None:
            raise InputError(f"cannot read {path} ({error.strerror})") from error
        raise InputError(f"cannot decode {path} ({first_line(error)}); replace or delete it") from error


def _in_rgb(image: Image.Image) -> Image.Image:
    form = image.tile[0][3] if image.tile else None  # gone after the pixels are read
    brightest, unseen, framed = -1, False, _metadata(lambda: image.n_frames > 1)
    image.load()
    turn = TURNS.get(_metadata(lambda: image.getexif()[ExifTags.Base.Orientation]))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image, brightest = _in_8_bits(image)
    elif image.mode in ("I", "F"):
        raise ValueError(f"values of mode {image.mode} have no fixed range; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        if image.format == "PNG" and "transparency" in image.info and form in TO_8_BITS:
            image.info["transparency"] = TO_8_BITS[form](image.info["transparency"])
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image, unseen = ground, ground.getextrema() == 4 * ((255, 255),)
    image = image.convert("RGB")
    image = image if turn is None else image.transpose(turn)
    image.info = {"look": Look(brightest, unseen, bool(framed))}
    return image


def _metadata(read: Callable):
    """What `read` gives; None where it is missing or damaged: the picture is whole, and a viewer shows it."""
    # not ImageOps.exif_transpose, which also writes the metadata anew and fails on more of them
    try:
        return read()
    except Exception:  # as in `read_image`
        return None


def _in_8_bits(image: Image.Image) -> tuple[Image.Image, int]:
    """Gray of 8 bits of one of 16 (a TIFF: also of 12), white where it is transparent, and its highest value."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    top = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    values = top - values if tags.get(PHOTOMETRIC) == 0 else values  # 0 is white there
    gray = np.rint(values * (255 / top)).astype(np.uint8)
    if "transparency" in image.info:
        gray[values == image.info["transparency"]] = 255
    return Image.fromarray(gray), int(values.max())


def tell(looks: Iterable[tuple[Path, Look]], total: int) -> None:
    """Notes on what reading took from images, of `total` that were looked at."""
    looks = list(looks)
    deep = [(path, look.brightest) for path, look in looks if look.brightest >= 0]
    if deep:
        most = max(level for _, level in deep)
        levels = f"65,535 becomes 255, and their highest value, {most:,}, {round(most / 257)}"
        note(f"note: 16 bits a channel in {len(deep):,} of {total:,} images ({deep[0][0]}): {levels}")
    for what, paths in {
        "nothing but white is seen, with transparent parts on white": [path for path, look in looks if look.unseen],
        "the first of several pages or frames is taken": [path for path, look in looks if look.framed],
    }.items():
        if paths:
            note(f"note: of {len(paths):,} of {total:,} images ({paths[0]}) {what}")


@contextmanager
def without_warnings():
    """Pillow's warnings name no file and nothing to do: about damaged metadata, and images of more than 89 million pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
