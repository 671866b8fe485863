"""Where the gateway's CPU time goes under one product at a time: perf's samples by what the code is for, self time, then the
dearest symbols. Arguments: pid, url, key, number of SKUs, seconds. Leaves perf.data in the working folder."""

import re
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SYMBOLS_SHOWN = 30
# The first that fits a symbol takes it. What the compiler put into its caller counts there.
GROUPS = [
    ("kernel: network", r"\[k\].*(tcp|ip_|ipv4|inet|sock|skb|net_|netif|loopback|nf_|napi|eth_|epoll|ep_|dst_|qdisc|dev_)"),
    ("kernel: files and sync", r"\[k\].*(ext4|jbd2|fsync|blk|bio|nvme|virt|vring|iowrite|page|folio|filemap|writeback|xas_|vfs_)"),
    ("kernel: threads and wake-ups", r"\[k\].*(futex|sched|wake|dequeue|enqueue|switch|timer|update_|pick_|rq_|spin_unlock)"),
    ("kernel: the rest", r"\[k\]"),
    ("SQLite: usage and polling", r"sqlite|sqlx"),
    ("parse the query", r"async_graphql_parser|pest|stacker|psm"),
    ("check before the parser", r"precheck"),
    ("validate the query", r"async_graphql::(validation|registry)"),
    ("execute the query", r"async_graphql|tollgate::product|indexmap"),
    ("feature store", r"tollgate::feature"),
    ("journal: append, hash, checksum", r"tollgate::(segment|metering)|sha2|crc32"),
    ("limiter", r"governor|limiter"),
    ("metrics", r"prometheus"),
    ("logging", r"tracing"),
    ("the gate's own", r"tollgate::(gate|directory|ids|clock|http|error)"),
    ("HTTP", r"hyper|http|axum|tower|matchit"),
    ("JSON", r"serde|ryu|itoa"),
    ("runtime", r"tokio|mio::|parking_lot|futures|Pin<P> as core::future|clock_gettime"),
    ("time to text", r"jiff"),
    ("memory: copy, compare, clear", r"mem(cpy|move|cmp|set|chr)|bcmp"),
    ("maps and hashes", r"hashbrown|[Hh]ash|BTree|btree"),
    ("allocator, clones and drops", r"_?mi_|malloc|__rust_|alloc::|drop_in_place"),
]


def main():
    pid, url, key, skus, seconds = sys.argv[1:]
    children = []

    def start(*command, **more):
        children.append(subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, **more))
        return children[-1]

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        operation = HERE / "one.graphql"
        load = start(
            *("taskset", "-c", 1, "wrk", "-t1", "-c32", f"-d{int(seconds) + 3}s", "-s", HERE / "load.lua", f"{url}/graphql", "--"),
            *("one", operation, skus, key, 1),
        )
        # The first second warms up.
        start("sleep", 1).wait()
        perf = start("perf", "record", "-q", "-F", 1997, "-p", pid, "-o", "perf.data", "--", "sleep", seconds)
        if perf.wait() != 0 or load.wait() != 0:
            sys.exit("scripts/bench: perf or wrk failed: see above")
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
    report = subprocess.run(
        ["perf", "report", "-i", "perf.data", "--stdio", "--no-children", "-g", "none", "--sort", "symbol", "-F", "overhead,sym"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    symbols, groups = {}, {}
    for share, symbol in re.findall(r"^\s+([\d.]+)%\s+(\[.\] .*?)(?:\s{2,}.*)?$", report, re.M):
        name = next((name for name, pattern in GROUPS if re.search(pattern, symbol)), "other")
        symbol = (name, symbol)
        symbols[symbol] = symbols.get(symbol, 0) + float(share)
        groups[name] = groups.get(name, 0) + float(share)
    dearest = lambda shares: sorted(shares.items(), key=lambda item: -item[1])
    print("self time, one product at a time\n")
    for name, share in dearest(groups):
        print(f"{share:6.1f} %  {name}")
    print(f"\nthe {SYMBOLS_SHOWN} dearest symbols\n")
    for (name, symbol), share in dearest(symbols)[:SYMBOLS_SHOWN]:
        print(f"{share:6.2f} %  {name:<31} {symbol[:110]}")


main()
