"""with_hyperqueue.py PROGRAM: a sweep of six tiny runs as tasks of a real HyperQueue (`pip install hyperqueue`) on this machine,
with one task's program killed; then the same sweep by `sweep run`, compared to the bit.

The wheel has no `hq` command, so the tasks are submitted by its Python interface; they are the same commands that
`sweep script --for hyperqueue` prints.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

try:
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig
except ImportError:
    print("SKIPPED: there is no hyperqueue here; pip install hyperqueue")
    sys.exit(0)

here = pathlib.Path(__file__).resolve().parent
program = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else here / "../../target/debug/cil-runner").resolve()


def kill_the_long_run(place: pathlib.Path) -> None:
    """Kills the program of the last run once it has some epochs behind it."""
    for _ in range(1200):
        logs = list(place.glob("runs/s/lwf-long-*.partial/events.jsonl"))
        if logs and len(logs[0].read_text().splitlines()) > 20:
            subprocess.run(["pkill", "-KILL", "-f", f"{place}/.*(--index 6|lwf-long)"], check=False)
            return
        time.sleep(0.1)


def main() -> None:
    place = pathlib.Path(tempfile.mkdtemp())
    try:
        shutil.copy(here / "sweep.toml", place / "s.toml")

        def submit(client, indexes) -> bool:
            job = Job()
            for index in indexes:
                job.program([str(program), "sweep", "task", str(place / "s.toml"), "--index", str(index), "--threads", "1"], cwd=place)
            submitted = client.submit(job)
            return client.wait_for_jobs([submitted], raise_on_error=False)

        with LocalCluster() as cluster:
            cluster.start_worker(WorkerConfig(cores=2))
            client = cluster.client()
            if not submit(client, [0]):
                sys.exit("the base model's task failed")
            killer = threading.Thread(target=kill_the_long_run, args=(place,))
            killer.start()
            if submit(client, range(1, 7)):
                sys.exit("a killed task was told to be done")
            killer.join()
            # Every number once more: what is done is left alone, the rest resumes.
            if not submit(client, range(0, 7)):
                sys.exit("the second attempt failed")
        straight = [str(program), "sweep", "run", str(place / "s.toml"), "--out", "straight", "--threads", "1"]
        subprocess.run(straight, cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        compare = ["bash", str(here / "compare.sh"), "runs/s", "straight/s"]
        subprocess.run(compare, cwd=place, check=True)
    finally:
        shutil.rmtree(place)


main()
