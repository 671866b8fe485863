"""Measures the running servers in interleaved rounds, and writes what it measured as JSON. Each measurement is checked: no
answer but the expected status, real data in a sample that both servers answer alike, a journal record for each answer.
Whatever does not hold is one sentence and exit 1: a figure of a broken server is worth less than none."""

import argparse
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
CONNECTIONS = 32
WARM_UP_SECONDS = 1
# Name, what load.lua sends, which operation.
WORKLOADS = {
    "one_product": ("one", "one.graphql"),
    "twenty_products": ("twenty", "twenty.graphql"),
    "one_product_new_text": ("fresh", "one.graphql"),
    "refusal": ("one", "one.graphql"),
}
# In each round, one after the other.
ORDER = [
    ("one_product", "gateway"),
    ("one_product", "floor"),
    ("twenty_products", "gateway"),
    ("twenty_products", "floor"),
    ("one_product_new_text", "gateway"),
    ("refusal", "gateway"),
]
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def die(message):
    sys.exit(f"scripts/bench: {message}")


def cpu_us(pid):
    """User and system time of all threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) * TICK_US, int(fields[12]) * TICK_US


def machine_user_us():
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[1]) + int(fields[2])) * TICK_US


def post(url, key, body):
    """Status and parsed body."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(f"{url}/graphql", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Bench:
    def __init__(self, options):
        self.options = options
        self.pids = {"gateway": options.gateway_pid, "floor": options.floor_pid}
        self.urls = {"gateway": options.gateway_url, "floor": options.floor_url}
        self.wrk = None
        self.runs = 0

    def counters(self):
        """What the gateway counted so far, once its usage is in the ledger: shipping is a part of what an answer costs."""
        until = time.monotonic() + 60
        while True:
            with urllib.request.urlopen(f"{self.options.operator_url}/metrics", timeout=10) as response:
                text = response.read().decode()
            found = dict(re.findall(r'^tollgate_(requests_total\{code="\w+"\}|journal_\w+) (\d+)$', text, re.M))
            if "journal_backlog_records" not in found or "journal_records_total" not in found:
                die("the gateway's metrics have no journal_records or journal_backlog_records: see src/telemetry.rs, then mend rounds.py")
            if found["journal_backlog_records"] == "0":
                limited = int(found.get('requests_total{code="RATE_LIMITED"}', 0))
                return {"limited": limited, "records": int(found["journal_records_total"])}
            if time.monotonic() > until:
                die("the gateway's usage was not shipped within 60 s of the load's end: its journal is filled faster than it is shipped")
            time.sleep(0.05)

    def load(self, workload, server, seconds):
        """One run of wrk; what it counted."""
        self.runs += 1
        kind, operation = WORKLOADS[workload]
        key = self.options.limited_key if workload == "refusal" else self.options.key
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
        command += ["-s", HERE / "load.lua", self.urls[server] + "/graphql", "--"]
        command += [kind, HERE / operation, str(self.options.skus), key, str(self.runs)]
        self.wrk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = self.wrk.communicate(timeout=seconds + 60)
        done = re.search(r"^DONE (.*)$", out, re.M)
        if self.wrk.returncode != 0 or not done:
            die(f"wrk failed against the {server}: {out.strip()}")
        self.wrk = None
        return json.loads(done[1])

    def measure(self, number, workload, server):
        options, pid = self.options, self.pids[server]
        if not Path(f"/proc/{pid}").exists():
            die(f"the {server} is gone: see the end of its log below")
        self.load(workload, server, WARM_UP_SECONDS)
        counted, machine = self.counters(), machine_user_us()
        begun, wrk_us, (user, system) = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime * 1e6, cpu_us(pid)
        done = self.load(workload, server, options.seconds)
        counters = self.counters()
        (user_after, system_after), wrk_after = cpu_us(pid), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime * 1e6
        user, system = user_after - user, system_after - system
        others = machine_user_us() - machine - user - (wrk_after - wrk_us)
        counted = {name: counters[name] - before for name, before in counted.items()}
        self.check(workload, server, done, counted)
        requests = done["requests"]
        return {
            "round": number,
            "workload": workload,
            "server": server,
            "requests": requests,
            "requests_per_second": round(requests / done["seconds"], 1),
            "p50_ms": done["p50_ms"],
            "p99_ms": done["p99_ms"],
            "cpu_us": round((user + system) / requests, 2),
            "cpu_user_us": round(user / requests, 2),
            "cpu_system_us": round(system / requests, 2),
            "answers": requests - done["non_2xx"],
            "journal_records": counted["records"] if server == "gateway" else None,
            # Of one core: figures beside a busy neighbour are not for the README.
            "others_user_percent": round(max(0.0, others / (time.monotonic() - begun) / 1e4), 1),
        }

    def check(self, workload, server, done, counted):
        where = f"{workload} at the {server}"
        if done["broken"]:
            die(f"{where}: {done['broken']} connections failed or timed out")
        if workload == "refusal":
            # What the rate lets through, at 1 a second, is no refusal.
            allowed = done["requests"] - done["non_2xx"]
            if allowed > self.options.seconds + 5:
                die(f"{where}: {allowed} of {done['requests']} requests were answered, but its rate allows fewer")
            if not 0 <= counted["limited"] - done["non_2xx"] <= CONNECTIONS:
                die(f"{where}: {done['non_2xx']} refusals came, but {counted['limited']} were counted as RATE_LIMITED")
            return self.sample_refusal(where)
        if done["non_2xx"]:
            die(f"{where}: {done['non_2xx']} of {done['requests']} requests were refused; none may be: see the plan in scripts/bench")
        # wrk hangs up on what is in flight when it ends: that is recorded, and not in wrk's count.
        if server == "gateway" and not 0 <= counted["records"] - done["requests"] <= CONNECTIONS:
            die(f"{where}: {done['requests']} answers came, but the journal has {counted['records']} records of them")
        self.sample_answer(workload, where)

    def sample_answer(self, workload, where):
        """Both servers give the same data, and nothing in it is null."""
        skus = [f"SKU-{random.randint(1, self.options.skus):06}" for _ in range(20)]
        variables = {"skus": skus} if workload == "twenty_products" else {"sku": skus[0]}
        body = {"query": (HERE / WORKLOADS[workload][1]).read_text(), "variables": variables}
        answers = {server: post(url, self.options.key, body) for server, url in self.urls.items()}
        data = {server: answer.get("data") for server, (_, answer) in answers.items()}
        text = json.dumps(data["gateway"])
        if not data["gateway"] or "null" in text or any(sku not in text for sku in variables.get("skus", skus[:1])):
            die(f"{where}: a sample answer has no real data: {answers['gateway']}")
        if data["gateway"] != data["floor"]:
            die(f"{where}: the gateway and the floor answer differently: {data}")

    def sample_refusal(self, where):
        body = {"query": (HERE / "one.graphql").read_text(), "variables": {"sku": "SKU-000001"}}
        # One of them may be what the rate lets through.
        tries = [post(self.urls["gateway"], self.options.limited_key, body) for _ in range(3)]
        if not any(status == 429 and answer["errors"][0]["extensions"]["code"] == "RATE_LIMITED" for status, answer in tries):
            die(f"{where}: a sample was not refused with 429 RATE_LIMITED: {tries[-1]}")


def main():
    parser = argparse.ArgumentParser()
    for name in ("gateway-url", "operator-url", "floor-url", "key", "limited-key", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("gateway-pid", "floor-pid", "seconds", "rounds", "skus"):
        parser.add_argument(f"--{name}", required=True, type=int)
    options = parser.parse_args()
    # sys.exit runs what stands in finally.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench, measured = Bench(options), []
    try:
        for number in range(1, options.rounds + 1):
            for workload, server in ORDER:
                run = bench.measure(number, workload, server)
                measured.append(run)
                print(
                    f"round {number}  {workload:<21} {server:<8} {run['requests_per_second']:>9.0f} req/s  {run['cpu_us']:>7.1f} µs CPU"
                    f"  p50 {run['p50_ms']:.2f} ms  p99 {run['p99_ms']:.2f} ms",
                    file=sys.stderr,
                    flush=True,
                )
    finally:
        if bench.wrk:
            bench.wrk.terminate()
            bench.wrk.wait()
    Path(options.out).write_text(json.dumps(measured))


main()
