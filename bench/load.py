"""Runs the load client (crates/load) against a server."""
import json
import subprocess

from servers import HOST, Failed


class Load:
    """One run of enjamb-load: what it says comes back as dicts."""

    def __init__(self, server, scenario, **options):
        arguments = [str(server.bench.load), scenario, "--address", server.address, "--host", HOST,
                     "--server-pid", str(server.pid), "--seed", str(server.bench.seed)]
        for name, value in options.items():
            if value is not None:
                arguments += ["--" + name.replace("_", "-"), str(value)]
        self.server, self.scenario = server, scenario
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def wait_for(self, event):
        for line in self.process.stdout:
            told = json.loads(line)
            if told["event"] == event:
                return told
        raise Failed(f"enjamb-load {self.scenario}: {self.process.stderr.read().strip()}\n{self.server.tail()}")

    def say(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def result(self):
        """What it measured; a run that was not whole is of no use."""
        told = self.wait_for("result")
        faults = {k: told[k] for k in ("lost", "duplicated", "reordered") if told.get(k)}
        if faults or not told["complete"] or told.get("failures"):
            raise Failed(f"enjamb-load {self.scenario}: complete: {told['complete']}, {faults}, {told.get('failures')}\n"
                         f"{self.server.tail()}")
        return told


def run(server, scenario, **options):
    with Load(server, scenario, **options) as load:
        return load.result()
