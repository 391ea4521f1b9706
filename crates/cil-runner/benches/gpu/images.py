"""Packs a data set's images without loss, to two thirds of what gzip makes of them, and unpacks them again.

usage: images.py pack FOLDER FILE       FOLDER is a data set's, as datasets/README.md has it
       images.py unpack FILE FOLDER
       images.py test [FOLDER]          packs and unpacks made-up images, and those of FOLDER
Natural images are smooth, and their colours go together: green is subtracted from red and blue, each value from what its
neighbours to the left, above and between predict (the median-edge predictor of JPEG-LS), and what is left is compressed by
xz. It needs numpy.
"""
import io
import json
import lzma
import pathlib
import struct
import sys
import tarfile
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit("images.py: numpy is missing; run pip install numpy")

AT_ONCE = 5000  # images; bounds the memory that is taken
IMAGES = ["train.images", "test.images"]


def residuals(images):
    """What the predictor misses, mod 256: images are u8 [count, 3, height, width]."""
    planes = images.copy()
    planes[:, 0] -= images[:, 1]
    planes[:, 2] -= images[:, 1]
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 0), (1, 0)))
    left, above, both = padded[:, :, 1:, :-1], padded[:, :, :-1, 1:], padded[:, :, :-1, :-1]
    return planes - predicted(left, above, both)


def predicted(left, above, both):
    low, high = np.minimum(left, above), np.maximum(left, above)
    return np.where(both >= high, low, np.where(both <= low, high, left + above - both))


def images_of(missed):
    """The inverse of residuals: value by value, since each is predicted from those before it, for all images at once."""
    count, colours, height, width = missed.shape
    # By row and column first: what is worked on lies together.
    values = np.zeros((height + 1, width + 1, count * colours), np.uint8)
    given = np.ascontiguousarray(missed.reshape(count * colours, height, width).transpose(1, 2, 0))
    for row in range(height):
        for column in range(width):
            left, above, both = values[row + 1, column], values[row, column + 1], values[row, column]
            values[row + 1, column + 1] = given[row, column] + predicted(left, above, both)
    planes = np.ascontiguousarray(values[1:, 1:].transpose(2, 0, 1)).reshape(missed.shape)
    planes[:, 0] += planes[:, 1]
    planes[:, 2] += planes[:, 1]
    return planes


def pack(folder, to):
    """A tar file, not compressed again: images packed, all else as it is."""
    folder = pathlib.Path(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    shape = [manifest[name] for name in ("channels", "height", "width")]
    if shape[0] != 3:
        sys.exit(f"{folder}/manifest.json: {shape[0]} channels; images of 3 can be packed")
    with tarfile.open(to, "w") as tar:
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            if path.name in IMAGES:
                values = np.frombuffer(data, np.uint8).reshape([-1, *shape])
                parts = [residuals(values[at : at + AT_ONCE]) for at in range(0, len(values), AT_ONCE)]
                missed = np.concatenate(parts) if parts else values
                data = struct.pack("<4I", *values.shape) + lzma.compress(missed.tobytes(), preset=6)
            entry = tarfile.TarInfo(path.name + (".packed" if path.name in IMAGES else ""))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def unpack(file, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # As a stream: parts that follow each other come through a pipe.
    with tarfile.open(file, "r|") as tar:
        for entry in tar:
            data = tar.extractfile(entry).read()
            name = pathlib.PurePath(entry.name).name.removesuffix(".packed")
            if entry.name.endswith(".packed"):
                shape = struct.unpack("<4I", data[:16])
                missed = np.frombuffer(lzma.decompress(data[16:]), np.uint8).reshape(shape)
                with open(folder / name, "wb") as out:
                    for at in range(0, len(missed), AT_ONCE):
                        out.write(images_of(missed[at : at + AT_ONCE]).tobytes())
            else:
                (folder / name).write_bytes(data)


def same_again(folder):
    """Whether a data set comes back as it was; its bytes, and those of its packed form."""
    with tempfile.TemporaryDirectory() as place:
        file = pathlib.Path(place) / "packed"
        pack(folder, file)
        unpack(file, pathlib.Path(place) / "again")
        names = sorted(path.name for path in pathlib.Path(folder).iterdir())
        again = sorted(path.name for path in (pathlib.Path(place) / "again").iterdir())
        assert names == again, f"{again} came back of {names}"
        for name in names:
            before, after = ((pathlib.Path(it) / name).read_bytes() for it in (folder, f"{place}/again"))
            assert before == after, f"{name} is not what it was"
        return sum((pathlib.Path(folder) / name).stat().st_size for name in names), file.stat().st_size


def test(folders):
    numbers = np.random.default_rng(1)
    for shape in [(7, 5, 9), (1, 1, 1), (3, 32, 32), (AT_ONCE + 3, 2, 3)]:
        smooth = np.cumsum(numbers.integers(0, 9, [shape[0], 3, *shape[1:]]), axis=3).astype(np.uint8)
        for images in [numbers.integers(0, 256, smooth.shape).astype(np.uint8), smooth, smooth * 0 + 255]:
            with tempfile.TemporaryDirectory() as place:
                channels, height, width = images.shape[1:]
                manifest = {"channels": channels, "height": height, "width": width}
                (pathlib.Path(place) / "manifest.json").write_text(json.dumps(manifest))
                (pathlib.Path(place) / "train.images").write_bytes(images.tobytes())
                (pathlib.Path(place) / "train.labels").write_bytes(b"\0" * 2 * len(images))
                same_again(place)
    for folder in folders:
        before, after = same_again(folder)
        print(f"{folder}: {before} bytes, {after} packed, {after / before:.3f} of them")
    print("what was packed came back as it was")


COMMANDS = {"pack": (2, pack), "unpack": (2, unpack)}
if __name__ == "__main__":
    name, *rest = sys.argv[1:] or [""]
    if name == "test":
        test(rest)
    elif name in COMMANDS and len(rest) == COMMANDS[name][0]:
        COMMANDS[name][1](*rest)
    else:
        sys.exit(__doc__)
