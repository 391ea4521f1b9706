"""What torchvision makes of 8-bit images, for the tests of src/augment.rs.

usage: python augment.py > augment.json (needs torch, torchvision and Pillow)
"""
import json

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as F

HEIGHT, WIDTH = 5, 7
MEAN, DEVIATION = [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]
# Padding, crop's row and column, mirrored, brightness.
CHANGES = [
    (0, (0, 0), False, 1.0),
    (0, (0, 0), True, 1.0),
    (2, (0, 0), False, 1.0),
    (2, (4, 1), False, 1.0),
    (2, (1, 4), True, 1.0),
    (4, (8, 0), True, 1.0),
    (0, (0, 0), False, 0.7529411764705882),
    (2, (3, 2), True, 1.2470588235294118),
]
# The same with contrast, whether it comes first, and what a crop finds beyond the edge.
MORE = [
    (0, (0, 0), False, 1.0, 0.2, False, "black"),
    (0, (0, 0), False, 1.0, 1.8, False, "black"),
    (2, (3, 2), True, 1.2470588235294118, 0.6137, False, "black"),
    (2, (3, 2), True, 1.2470588235294118, 0.6137, True, "black"),
    (4, (1, 7), False, 0.7529411764705882, 1.7431, True, "black"),
    (4, (1, 7), False, 0.7529411764705882, 1.7431, False, "black"),
    (2, (4, 1), True, 1.0, 1.0, False, "mean"),
    (4, (8, 0), False, 1.1, 0.9, False, "mean"),
]
FACTORS = [0.0, 0.7529411764705882, 0.8613, 0.999, 1.0, 1.001, 1.1037, 1.2470588235294118, 2.0]


def changed(image, padding, corner, mirrored, brightness, contrast=1.0, contrast_first=False, fill="black"):
    """`ColorJitter`, `RandomCrop` and `RandomHorizontalFlip` once they have drawn; `ToTensor` and `Normalize` at the end,
    or before the crop where it is to find the mean colour beyond the edge."""
    jitters = [lambda it: F.adjust_brightness(it, brightness), lambda it: F.adjust_contrast(it, contrast)]
    for jitter in reversed(jitters) if contrast_first else jitters:
        image = jitter(image)
    normalised = lambda it: F.normalize(F.to_tensor(it), MEAN, DEVIATION)
    if fill == "mean":
        image = normalised(image)
    image = F.pad(image, padding, fill=0, padding_mode="constant")
    image = F.crop(image, *corner, HEIGHT, WIDTH)
    if mirrored:
        image = F.hflip(image)
    return image if fill == "mean" else normalised(image)


pixels = np.random.default_rng(1993).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
every_byte = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(3).reshape(16, 16, 3))
print(json.dumps({
    "versions": {"torch": torch.__version__, "torchvision": __import__("torchvision").__version__},
    "height": HEIGHT,
    "width": WIDTH,
    "mean": MEAN,
    "deviation": DEVIATION,
    "bytes": pixels.transpose(2, 0, 1).flatten().tolist(),
    "changes": [
        {"padding": padding, "corner": corner, "mirrored": mirrored, "brightness": brightness,
         "values": changed(Image.fromarray(pixels), padding, corner, mirrored, brightness).flatten().tolist()}
        for padding, corner, mirrored, brightness in CHANGES
    ] + [
        {"padding": padding, "corner": corner, "mirrored": mirrored, "brightness": brightness, "contrast": contrast,
         "contrast_first": first, "fill": fill,
         "values": changed(Image.fromarray(pixels), padding, corner, mirrored, brightness, contrast, first, fill).flatten().tolist()}
        for padding, corner, mirrored, brightness, contrast, first, fill in MORE
    ],
    "brightness": [
        {"factor": factor, "bytes": np.array(F.adjust_brightness(every_byte, factor))[..., 0].flatten().tolist()}
        for factor in FACTORS
    ],
}))
