"""Race `cil-runner bench --serve` against PyTorch's four modes, in turn, so that a ratio holds although speed drifts.

usage: race.py WORK [--rounds N] [--threads N] [--model resnet32|resnet18] [--side PIXELS] [--batch N] [--vid]
               [--modes MODE ...] [--ours COMMAND]
  WORK   train | eval | invert | step
Run it from the root of the repository after `cargo build -p cil-runner`, with a Python that has torch. Each round asks
every server for one step; a ratio is the median over rounds of our time by the other's in the same round, and the best
mode is the one of the least median. Prints each server's median wall and processor time and our ratio to it.
"""
import argparse
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

MODES = ["default", "channels_last", "compile", "compile_channels_last"]
SERVER = pathlib.Path(__file__).with_name("step_server.py")


class Server:
    def __init__(self, name, command):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self, work):
        self.process.stdin.write(work + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != 2:
            sys.exit(f"error: {self.name} gave no answer to {work}")
        return float(answer[0]), float(answer[1])

    def warm_up(self, work):
        """Steps until two in a row are alike: compiled modes take several."""
        before = self.step(work)[0]
        for _ in range(12):
            now = self.step(work)[0]
            if abs(now - before) < 0.2 * before:
                return
            before = now


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["train", "eval", "invert", "step"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="resnet32", choices=["resnet32", "resnet18"])
    parser.add_argument("--side", type=int, help="height and width of resnet18's images; 64 otherwise")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--vid", action="store_true", help="PyTorch's step with variational information distillation")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--ours", default="target/debug/cil-runner bench --serve")
    arguments = parser.parse_args()
    batch = str(arguments.batch or {"resnet32": 128, "resnet18": 64}[arguments.model])
    ours = shlex.split(arguments.ours)
    ours += ["--threads", str(arguments.threads), "--model", arguments.model, "--batch", batch]
    side = ["--side", str(arguments.side)] if arguments.side else []
    servers = [Server("ours", ours + side)]
    for mode in arguments.modes:
        command = [sys.executable, str(SERVER), mode, str(arguments.threads), arguments.model, batch]
        servers.append(Server(mode, command + side + ["--vid"] * arguments.vid))
    for server in servers:
        server.warm_up(arguments.work)
    for _ in range(arguments.rounds):
        for server in servers:
            time.sleep(0.03)
            server.times.append(server.step(arguments.work))
    for server in servers:
        server.process.stdin.close()
    best = min(servers[1:], key=lambda it: statistics.median(wall for wall, _ in it.times))
    for server in servers:
        walls, cpus = zip(*server.times)
        ratio = statistics.median(o / s for (o, _), (s, _) in zip(servers[0].times, server.times))
        mark = "  <- best of PyTorch" if server is best else ""
        print(f"{arguments.work:6} {server.name:22} wall {statistics.median(walls):8.1f} ms (min {min(walls):8.1f})  "
              f"processor {statistics.median(cpus):8.1f} ms  ours / this {ratio:.3f}{mark}")


if __name__ == "__main__":
    main()
