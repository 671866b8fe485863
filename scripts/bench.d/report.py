"""Medians and ratios of what rounds.py measured: writes results.json, prints the Markdown table, and puts it into a README
between its marks when one is given. Arguments: measured.json, facts.json, results.json, [README.md]."""

import json
import statistics
import sys
from pathlib import Path

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
FIGURES = ("requests_per_second", "p50_ms", "p99_ms", "cpu_us", "cpu_user_us", "cpu_system_us")
TITLES = {
    "one_product": "one product",
    "twenty_products": "20 products at once",
    "one_product_new_text": "one product, a new text each time",
    "refusal": "refused: `RATE_LIMITED`",
}


def medians(measured):
    found = {}
    for run in measured:
        found.setdefault(run["workload"], {}).setdefault(run["server"], []).append(run)
    median = lambda runs: {name: round(statistics.median(run[name] for run in runs), 3) for name in FIGURES}
    return {workload: {server: median(runs) for server, runs in servers.items()} for workload, servers in found.items()}


def ratios(measured):
    """Gateway by floor within a round, then the median: what slows the machine for a while slows both."""
    by_round = {}
    for run in measured:
        by_round.setdefault(run["workload"], {}).setdefault(run["round"], {})[run["server"]] = run
    found = {}
    for workload, rounds in by_round.items():
        pairs = [pair for pair in rounds.values() if "floor" in pair]
        if pairs:
            ratio = lambda name: round(statistics.median(pair["gateway"][name] / pair["floor"][name] for pair in pairs), 3)
            found[workload] = {name: ratio(name) for name in ("requests_per_second", "cpu_us", "p99_ms")}
    return found


def table(results):
    rows = [
        "| | gateway, req/s | p50 / p99 ms | CPU µs | floor, req/s | p50 / p99 ms | CPU µs | CPU, gateway : floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for workload, title in TITLES.items():
        servers = results["medians"][workload]

        def cells(server):
            if server not in servers:
                return ["–"] * 3
            figures = servers[server]
            cpu = f"{figures['cpu_us']:.1f} ({figures['cpu_user_us']:.1f} + {figures['cpu_system_us']:.1f})"
            return [f"{figures['requests_per_second']:,.0f}", f"{figures['p50_ms']:.2f} / {figures['p99_ms']:.2f}", cpu]

        ratio = results["ratios"].get(workload)
        rows.append("| " + " | ".join([title, *cells("gateway"), *cells("floor"), f"{ratio['cpu_us']:.2f}" if ratio else "–"]) + " |")
    return "\n".join(rows)


def words(results):
    answers, records = results["answers"], results["journal_records"]
    return (
        f"{results['date']}, commit {results['commit']}{' with changes' if results['dirty'] else ''}; {results['cpu']}, "
        f"Linux {results['kernel']}, rustc {results['rust']}. Medians of {results['rounds']} × "
        f"{results['seconds']} s, interleaved; the server on one core, wrk with {results['connections']} keep-alive connections on another; "
        f"{results['skus']:,} SKUs, uniform random; operation text and variables in each POST. CPU is the server's per request, user + "
        f"system, shipping of usage to the ledger included. The journal syncs to {results['filesystem']}: {answers:,} answers, "
        f"{records:,} records in it (the {records - answers} more were in flight when wrk hung up). A refusal costs {results['refusal_to_answer_cpu']:.2f} of an answer's CPU."
    )


def main():
    measured = json.loads(Path(sys.argv[1]).read_text())
    results = json.loads(Path(sys.argv[2]).read_text())
    gateway = [run for run in measured if run["server"] == "gateway"]
    results["medians"], results["ratios"] = medians(measured), ratios(measured)
    of = results["medians"]
    results["refusal_to_answer_cpu"] = round(of["refusal"]["gateway"]["cpu_us"] / of["one_product"]["gateway"]["cpu_us"], 3)
    results["answers"] = sum(run["answers"] for run in gateway)
    results["journal_records"] = sum(run["journal_records"] for run in gateway)
    results["measurements"] = measured
    out = Path(sys.argv[3])
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")

    text = f"{table(results)}\n\n{words(results)}"
    print(text)
    busiest = max(run["others_user_percent"] for run in measured)
    if busiest > 10:
        print(f"scripts/bench: other processes took up to {busiest:.0f} % of a core meanwhile: measure again on a calm machine", file=sys.stderr)
    if len(sys.argv) > 4:
        readme = Path(sys.argv[4])
        before, begin, rest = readme.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            sys.exit(f"scripts/bench: {readme} has no lines {BEGIN} and {END}: put them where the table belongs")
        readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


main()
