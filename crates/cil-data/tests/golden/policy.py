"""What Pillow makes of 8-bit images by the operations of torchvision's AutoAugment and TrivialAugmentWide, for the tests
of src/augment/operation.rs.

usage: python policy.py > policy.json (needs Pillow and numpy)

torchvision's `_apply_op` of Pillow images restated: `F.affine` and `F.rotate` become `Image.transform` and
`Image.rotate` with the nearest pixel and black around, the rest `ImageEnhance` and `ImageOps`.
"""
import json
import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def affine(image, translate=(0, 0), shear=(0.0, 0.0), centre=None):
    """torchvision's `_get_inverse_affine_matrix` for no rotation and no scaling."""
    sx, sy = math.radians(shear[0]), math.radians(shear[1])
    cx, cy = centre if centre is not None else (image.width * 0.5, image.height * 0.5)
    a = math.cos(-sy) / math.cos(sy)
    b = -math.cos(-sy) * math.tan(sx) / math.cos(sy)
    c = math.sin(-sy) / math.cos(sy)
    d = -math.sin(-sy) * math.tan(sx) / math.cos(sy) + 1.0
    m = [d, -b, 0.0, -c, a, 0.0]
    m[2] += m[0] * (-cx - translate[0]) + m[1] * (-cy - translate[1]) + cx
    m[5] += m[3] * (-cx - translate[0]) + m[4] * (-cy - translate[1]) + cy
    return image.transform(image.size, Image.Transform.AFFINE, m, Image.Resampling.NEAREST)


def degrees(magnitude):
    return math.degrees(math.atan(magnitude))


OPERATIONS = {
    "shear-x": lambda image, m: affine(image, shear=(degrees(m), 0.0), centre=(0, 0)),
    "shear-y": lambda image, m: affine(image, shear=(0.0, degrees(m)), centre=(0, 0)),
    "translate-x": lambda image, m: affine(image, translate=(int(m), 0)),
    "translate-y": lambda image, m: affine(image, translate=(0, int(m))),
    "rotate": lambda image, m: image.rotate(m, Image.Resampling.NEAREST),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(m),
    "color": lambda image, m: ImageEnhance.Color(image).enhance(m),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(m),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(m),
    "posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "solarize": lambda image, m: ImageOps.solarize(image, m),
    "auto-contrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "invert": lambda image, m: ImageOps.invert(image),
}
BOTH = lambda *values: [sign * value for value in values for sign in (1, -1)]
FACTORS = [0.01, 0.1, 0.373, 0.67, 1.0, 1.3, 1.66, 1.99]
MAGNITUDES = {
    "shear-x": BOTH(0.033, 0.3, 0.495, 0.99), "shear-y": BOTH(0.033, 0.3, 0.495, 0.99),
    "translate-x": BOTH(0, 1, 3, 6, 32), "translate-y": BOTH(0, 1, 3, 6, 32),
    "rotate": BOTH(0.0, 4.5, 13.333333015441895, 45.0, 90.0, 103.5, 135.0),
    "brightness": FACTORS, "color": FACTORS, "contrast": FACTORS, "sharpness": FACTORS,
    "posterize": [2, 3, 4, 5, 6, 7, 8], "solarize": [0.0, 8.5, 127.5, 170.0, 255.0],
    "auto-contrast": [0], "equalize": [0], "invert": [0],
}


def images():
    random = np.random.default_rng(3)
    yield random.integers(0, 256, (8, 9, 3))
    # Few colours, a narrow range, and a channel of one value.
    narrow = random.integers(90, 140, (6, 7, 3))
    narrow[..., 1] = 77
    narrow[..., 2] = random.choice([3, 250], (6, 7))
    yield narrow
    yield np.indices((10, 8)).sum(0)[..., None] * np.array([10, 6, 2]) + np.array([0, 40, 200])


def planes(image):
    return np.asarray(image).transpose(2, 0, 1).flatten().tolist()


cases = []
for at, pixels in enumerate(images()):
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    found = [{"operation": name, "magnitude": m, "bytes": bytes(planes(change(image, m))).hex()}
             for name, change in OPERATIONS.items() for m in MAGNITUDES[name]]
    cases.append({"height": image.height, "width": image.width, "bytes": bytes(planes(image)).hex(), "changed": found})
print(json.dumps(cases))
