"""Parts that are measured inside one Prosody process, by bench/plugins/mod_enjamb_bench.lua: the sending path, memory,
acks, growth, and the sessions of the recovery part."""
import json
import pathlib
import subprocess
import time

from servers import Failed, tree_of

TIMEOUT = 600


def serve(bench, installed, variant, phase, options=(), **more):
    """Has a server run one phase to its end. Returns the records that it wrote."""
    with _server(bench, installed, variant, phase, options, more) as server:
        try:
            server.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failed(f"no result after {TIMEOUT} s\n{server.tail()}") from None
        return _records(server)


def _server(bench, installed, variant, phase, options, more):
    server = installed.server(bench, variant, modules=["enjamb_bench"], wait=False, options=[
        f'enjamb_bench_variant = "{variant.smacks}"', f'enjamb_bench_phase = "{phase}"',
        *(f"enjamb_bench_{k} = {v}" for k, v in more.items()), *options])
    text = server.config.read_text()
    server.output = server.data / "bench.jsonl"
    server.config.write_text(f'enjamb_bench_output = "{server.output}"\n{text}')
    return server


def filled(bench, installed, variant, options=(), **more):
    """A server whose sessions are there and wait; to be used as a context."""
    return _server(bench, installed, variant, "fill", options, more)


def _records(server):
    records = []
    if server.output.exists():
        records = [json.loads(line) for line in server.output.read_text().splitlines()]
    for record in records:
        if record["what"] == "error":
            raise Failed(f"{record['message']}\n{server.tail()}")
    if not records or records[-1]["what"] != "done":
        raise Failed(f"the server ended by itself, status {server.process.returncode}\n{server.tail()}")
    server.check()
    path = records[0].get("module_path")
    if server.variant.smacks != "none":
        from_tree = path is not None and pathlib.Path(path).resolve().is_relative_to(tree_of(server.bench, server.variant))
        if from_tree != (server.variant.smacks == "enjamb"):
            raise Failed(f"{server.variant.title} ran {path}")
    return records[1:-1]


def wait_until_filled(server):
    """Until all sessions of a filled server are there, and written."""
    began = time.monotonic()
    while time.monotonic() - began < TIMEOUT:
        ended = server.process.poll() is not None
        text = server.output.read_text() if server.output.exists() else ""
        if ended or '"done"' in text or '"error"' in text:
            return _records(server)
        time.sleep(0.2)
    raise Failed(f"sessions were not made in {TIMEOUT} s\n{server.tail()}")
