"""Probabilities that ONNX Runtime has of images, as JSON by file and class. usage: run_onnx.py MODEL.onnx IMAGE..."""
import json
import sys

import numpy
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
told = {}
for file in sys.argv[2:]:
    pixels = numpy.asarray(Image.open(file).convert("RGB"), numpy.float32).transpose(2, 0, 1)[None] / 255
    logits = session.run(["logits"], {"images": pixels})[0][0].astype(numpy.float64)
    exponentials = numpy.exp(logits - logits.max())
    told[file] = dict(zip(classes, (exponentials / exponentials.sum()).tolist()))
print(json.dumps(told))
