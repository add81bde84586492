"""One image file as the networks take it: RGB of 8 bits, upright, on white."""

import warnings
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from resnet_nb.errors import InputError, first_line

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BRIGHTEST, UNSEEN = "brightest", "unseen"  # in `info`: see `read_image`
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of a TIFF


def read_image(path) -> Image.Image:
    """The image in RGB as a viewer shows it: turned as its EXIF says, with transparent parts on white.

    Of 16 bits a channel, the whole range becomes 0 to 255; `info["brightest"]` then has the highest value before.
    `info["unseen"]` is true of a drawing that is itself white. Of several frames or pages the first one is taken. Raises
    InputError naming a file that cannot be decoded, or whose values have no known range (32 bits a channel, floating point).
    """
    try:
        with Image.open(path) as image:
            image.load()
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
    # not ImageOps.exif_transpose, which also writes the metadata anew and fails where they are damaged
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    info = {}
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image, info[BRIGHTEST] = _in_8_bits(image)
    elif image.mode in ("I", "F"):
        raise ValueError(f"values of mode {image.mode} have no fixed range; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        drawing, ground = image.convert("RGBA"), Image.new("RGBA", image.size, "white")
        ground.alpha_composite(drawing)
        image, (least, most) = ground, drawing.getchannel("A").getextrema()
        info[UNSEEN] = least < most and ground.getextrema() == 4 * ((255, 255),)
    image = image.convert("RGB")
    image = image if turn is None else image.transpose(turn)
    image.info = info
    return image


def _in_8_bits(image: Image.Image) -> tuple[Image.Image, int]:
    """Gray of 8 bits of one of 16 (a TIFF: also of 12), white where it is transparent, and its highest value."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    top = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    values = top - values if tags.get(PHOTOMETRIC) == 0 else values  # 0 is white there
    gray = np.rint(values * (255 / top)).astype(np.uint8)
    if "transparency" in image.info:
        gray[values == image.info["transparency"]] = 255
    return Image.fromarray(gray), int(values.max())


@contextmanager
def without_warnings():
    """Pillow's warnings name no file and nothing to do: about damaged metadata, and images of more than 89 million pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
