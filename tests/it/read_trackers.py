"""What Weights & Biases and MLflow hold of a run that docs/follow.py handed on, as JSON; `trackers.rs` runs it.

    read_trackers.py wandb DIR     {"settings": N, "points": {TAG: [[STEP, VALUE], ...]}} of the offline run in DIR/wandb
    read_trackers.py mlflow DIR    the same of the run in the file store DIR/mlruns
"""

import glob
import json
import sys


def records(path):
    """The records of a W&B file: LevelDB's log format behind a header of seven bytes."""
    with open(path, "rb") as file:
        data = file.read()
    at, record = 7, b""
    while at + 7 <= len(data):
        # Behind a block's last record there may be no room for a header.
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def wandb_run(folder):
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = glob.glob(f"{folder}/wandb/offline-run-*/run-*.wandb")
    points, settings = {}, set()
    for data in records(path):
        record = Record.FromString(data)
        settings |= {it.key or it.nested_key[0] for it in record.run.config.update}
        items = {it.key or it.nested_key[0]: json.loads(it.value_json) for it in record.history.item}
        for key, value in items.items():
            parts = key.split("/")
            axis = "task" if parts[0] == "accuracy" else f"unit/{parts[1]}" if len(parts) > 1 else None
            if axis in items and key != axis:
                points.setdefault(key, []).append([items[axis], value])
    return {"settings": len(settings - {"_wandb"}), "points": points}


def mlflow_run(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file://{folder}/mlruns")
    (run,) = client.search_runs([it.experiment_id for it in client.search_experiments()])
    tags = run.data.metrics
    points = {tag: [[it.step, it.value] for it in client.get_metric_history(run.info.run_id, tag)] for tag in tags}
    return {"settings": len(run.data.params), "points": points, "status": run.info.status}


print(json.dumps({"wandb": wandb_run, "mlflow": mlflow_run}[sys.argv[1]](sys.argv[2])))
