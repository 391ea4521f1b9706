"""Writes pictures.json: small files of every kind that is read, and what Pillow decodes of them.

usage: python pictures.py > pictures.json   (Pillow 13)

A file is base64; `pixels` are those of Pillow's RGB after the EXIF orientation, over white where it is transparent.
`fitted` are some of torchvision's Resize and CenterCrop of the same files, computed by Pillow's resize.
"""

import base64
import io
import json
import random

from PIL import Image, ImageOps

WIDTH, HEIGHT = 24, 16
random.seed(1)


def picture(width=WIDTH, height=HEIGHT):
    """Smooth colours, so that lossy files stay near."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            image.putpixel((x, y), (x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) * 3 % 256))
    return image


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reference(data):
    image = Image.open(io.BytesIO(data))
    image.seek(0)
    image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        wide = image.convert("I")
        image = Image.new("L", image.size)
        image.putdata([(value + 128) // 257 for value in wide.getdata()])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        under = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(under, image)
    return image.convert("RGB")


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def cases():
    rgb = picture()
    grey = rgb.convert("L")
    alpha = rgb.copy()
    alpha.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    yield "jpeg baseline", saved(rgb, "JPEG", quality=95, subsampling=0), 6
    yield "jpeg 4:2:0", saved(rgb, "JPEG", quality=95, subsampling=2), 12
    yield "jpeg progressive", saved(rgb, "JPEG", quality=95, subsampling=0, progressive=True), 6
    yield "jpeg grey", saved(grey, "JPEG", quality=95), 4
    yield "jpeg cmyk", saved(rgb.convert("CMYK"), "JPEG", quality=95, subsampling=0), 8
    yield "jpeg trailing bytes", saved(rgb, "JPEG", quality=95, subsampling=0) + bytes(range(256)) * 3, 6
    yield "jpeg restarts", saved(rgb, "JPEG", quality=95, subsampling=0, restart_marker_blocks=1), 6
    for orientation in range(1, 9):
        yield f"jpeg orientation {orientation}", saved(rgb, "JPEG", quality=95, subsampling=0, exif=exif(orientation)), 6
    yield "jpeg broken exif", saved(rgb, "JPEG", quality=95, subsampling=0, exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff"), 6
    yield "png", saved(rgb, "PNG"), 0
    yield "png orientation 6", saved(rgb, "PNG", exif=exif(6)), 0
    yield "png palette", saved(rgb.quantize(16), "PNG"), 0
    yield "png palette transparent", saved(rgb.quantize(16), "PNG", transparency=3), 0
    yield "png alpha", saved(alpha, "PNG"), 1
    yield "png grey", saved(grey, "PNG"), 0
    yield "png grey alpha", saved(alpha.convert("LA"), "PNG"), 1
    yield "png one bit", saved(grey.convert("1"), "PNG"), 0
    deep = Image.new("I;16", (WIDTH, HEIGHT))
    deep.putdata([value * 257 - value % 5 if value else 0 for value in grey.getdata()])
    yield "png 16 bit", saved(deep, "PNG"), 1
    yield "webp", saved(rgb, "WEBP", quality=95), 16
    yield "webp lossless", saved(rgb, "WEBP", lossless=True), 0
    yield "webp alpha", saved(alpha, "WEBP", lossless=True), 1
    yield "bmp", saved(rgb, "BMP"), 0
    yield "bmp palette", saved(rgb.quantize(16), "BMP"), 0
    yield "gif", saved(rgb.quantize(32), "GIF"), 0
    frames = [picture().quantize(8), ImageOps.mirror(picture()).quantize(8)]
    yield "gif of two frames", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), 0
    yield "png one pixel", saved(rgb.crop((0, 0, 1, 1)), "PNG"), 0
    yield "jpeg one pixel", saved(rgb.crop((5, 5, 6, 6)), "JPEG", quality=95), 6
    yield "png row", saved(picture(90, 1), "PNG"), 0


def half_to_even(count):
    return int(round(count / 2.0))


def fitted(width, height, side, shorter):
    noise = Image.frombytes("RGB", (width, height), random.randbytes(3 * width * height))
    short, long = min(width, height), max(width, height)
    longer = int(shorter * long / short)
    size = (shorter, longer) if width <= height else (longer, shorter)
    resized = noise.resize(size, Image.BILINEAR)
    left, top = half_to_even(size[0] - side), half_to_even(size[1] - side)
    cut = resized.crop((left, top, left + side, top + side))
    return {"height": height, "width": width, "side": side, "shorter": shorter,
            "picture": base64.b64encode(noise.tobytes()).decode(), "pixels": base64.b64encode(cut.tobytes()).decode()}


def main():
    files = []
    for name, data, tolerance in cases():
        image = reference(data)
        files.append({"name": name, "tolerance": tolerance, "width": image.width, "height": image.height,
                      "file": base64.b64encode(data).decode(), "pixels": base64.b64encode(image.tobytes()).decode()})
    sizes = [(40, 30, 8, 8), (30, 47, 8, 8), (33, 33, 14, 16), (61, 37, 14, 16), (5, 9, 16, 16), (7, 5, 14, 16), (1, 50, 4, 4)]
    print(json.dumps({"files": files, "fitted": [fitted(*size) for size in sizes]}))


main()
