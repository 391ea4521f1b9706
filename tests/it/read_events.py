"""What TensorBoard itself reads in a folder of event files, as JSON; `reports.rs` and `live.rs` run it.

    read_events.py DIR        {RUN: {TAG: [[STEP, VALUE], ...]}}
    read_events.py --watch FOLDER
                              {TAG: [[STEP, VALUE], ...]} of one run's folder, by a reader that is open all the time: it
                              reads what is there now and at every line of standard input, and prints at its end
    read_events.py --example  the first record of a file that TensorBoard writes at time 0, in hexadecimal

Needs `pip install tensorboard` (seen with 2.21).
"""

import io
import json
import os
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter


def example():
    file = io.BytesIO()
    RecordWriter(file).write(Event(wall_time=0, step=0, file_version="brain.Event:2").SerializeToString())
    return file.getvalue().hex()


def reader(folder):
    return EventAccumulator(folder, size_guidance={"scalars": 0})


def scalars(events):
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [[it.step, it.value] for it in events.Scalars(tag)] for tag in tags}


if sys.argv[1:] == ["--example"]:
    print(example())
elif sys.argv[1] == "--watch":
    events = reader(sys.argv[2])
    events.Reload()
    print("ready", flush=True)
    for _ in sys.stdin:
        events.Reload()
        print("read", flush=True)
    print(json.dumps(scalars(events)))
else:
    root = sys.argv[1]
    print(json.dumps({name: scalars(reader(os.path.join(root, name))) for name in sorted(os.listdir(root))}))
