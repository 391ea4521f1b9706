"""Hands what runs record to Weights & Biases, to MLflow, or to standard output, while they go and afterwards.

    python3 docs/follow.py runs/demo-lwf-s1.partial                    prints
    python3 docs/follow.py --to wandb --project continual runs/*       pip install wandb
    python3 docs/follow.py --to mlflow --project continual runs/*      pip install mlflow

Reads a run's config.toml and events.jsonl (docs/events.md) and nothing else, and writes nothing into a run folder. With
--wait it follows runs that still go until they end. Python 3.11 or newer.
"""

import argparse
import json
import pathlib
import sys
import time
import tomllib


# Seconds between two looks into a log.
WAIT = 2


def flat(table, before=""):
    """Settings by their dotted keys."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in items:
        name = f"{before}{key}"
        nested = isinstance(value, dict) or isinstance(value, list) and any(isinstance(it, dict) for it in value)
        yield from flat(value, name + ".") if nested else [(name, value)]


def numbers(event, units):
    """Step and numbers of an event; units count over all tasks, from 1, and so do tasks."""
    if event.get("event") == "progress":
        phase = event["phase"]
        units[phase] = units.get(phase, 0) + 1
        values = {f"loss/{phase}/{part}": value for part, value in event["losses"].items()}
        return units[phase], f"unit/{phase}", values | {f"learning-rate/{phase}": event["learning_rate"]}
    if event.get("event") == "task-end":
        rows = event["evaluation"]["classifier"]["rows"]
        of_class = [row[at] / max(sum(row), 1) for at, row in enumerate(rows)]
        images = sum(map(sum, rows))
        values = {"accuracy/all": sum(row[at] for at, row in enumerate(rows)) / images}
        values |= {f"accuracy/class-{at + 1}": value for at, value in enumerate(of_class)}
        return event["task"] + 1, "task", values
    return None


class Printed:
    def begin(self, name, settings, project):
        print(f"{name}: {len(settings)} settings")

    def log(self, step, axis, values):
        print(axis, step, json.dumps(values))

    def end(self):
        pass


class Wandb(Printed):
    def begin(self, name, settings, project):
        import wandb

        self.run = wandb.init(project=project, name=name, config=settings)
        self.known = set()

    def log(self, step, axis, values):
        # Axes of their own: phases and tasks count apart.
        for name in values.keys() - self.known:
            self.run.define_metric(name, step_metric=axis)
        self.known |= values.keys()
        self.run.log({axis: step, **values})

    def end(self):
        self.run.finish()


class Mlflow(Printed):
    def begin(self, name, settings, project):
        import mlflow

        self.mlflow = mlflow
        mlflow.set_experiment(project)
        mlflow.start_run(run_name=name)
        mlflow.log_params({key: str(value)[:500] for key, value in settings.items()})

    def log(self, step, axis, values):
        self.mlflow.log_metrics(values, step=step)

    def end(self):
        self.mlflow.end_run()


def lines(folder, wait):
    """The events of a run, each once; with `wait` also those that are still to come."""
    given = 0
    with open(folder / "events.jsonl", "rb") as log:
        while True:
            # A run that is whole has another name, and the log that is open is still its log. Looked at before the log is
            # read, or what is written in between would be lost.
            is_last = not wait or not folder.exists()
            # From the beginning: a run that was killed goes on from a checkpoint, and does again, in the same place of
            # its log, what it had done.
            log.seek(0)
            *whole, _ = log.read().split(b"\n")
            for line in whole[given:]:
                event = json.loads(line)
                yield event
                if event.get("event") == "run-end":
                    return
            given = max(given, len(whole))
            if is_last:
                return
            time.sleep(WAIT)


def run_folder(path):
    """The folder of a run that may have ended since it was named, or None."""
    whole = path.with_name(path.name.removesuffix(".partial"))
    return next((it for it in (path, whole) if (it / "events.jsonl").is_file()), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--to", choices=["print", "wandb", "mlflow"], default="print")
    parser.add_argument("--project", default="cil-runner")
    parser.add_argument("--wait", action="store_true")
    arguments = parser.parse_args()
    for named in arguments.runs:
        if not (folder := run_folder(named)):
            print(f"left out: {named} is not a run folder", file=sys.stderr)
            continue
        tracker = {"print": Printed, "wandb": Wandb, "mlflow": Mlflow}[arguments.to]()
        settings = dict(flat(tomllib.loads((folder / "config.toml").read_text())))
        tracker.begin(folder.name.removesuffix(".partial"), settings, arguments.project)
        units = {}
        try:
            for event in lines(folder, arguments.wait):
                if found := numbers(event, units):
                    tracker.log(*found)
        finally:
            tracker.end()


if __name__ == "__main__":
    main()
