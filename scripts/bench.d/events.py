"""Writes the benchmark's events to stdout, the same for a number of SKUs on every machine: for each SKU what the catalogue
says, one stock level and one price. CloudEvents 1.0, one a line."""

import json
import sys


def events(n):
    sku = f"SKU-{n:06}"
    yield "catalog.product.upserted", {
        "sku": sku,
        "title": f"Product {n:06} of the benchmark",
        "brand": f"Brand {n % 500:03}",
        "category": f"CATEGORY {n % 40:02}",
        "supplier": f"M{n % 1000:04}",
    }
    yield "inventory.counted", {"sku": sku, "location": "S367", "onHand": 10 + n * 7 % 900, "reserved": n % 10}
    yield "price.set", {
        "sku": sku,
        "market": "S367",
        "currency": "EUR",
        "amount": f"{1 + n % 200}.{n * 3 % 100:02}",
        "listAmount": f"{210 + n % 90}.00",
    }


def main():
    written = 0
    for n in range(1, int(sys.argv[1]) + 1):
        for kind, data in events(n):
            written += 1
            event = {
                "specversion": "1.0",
                "id": f"b{written}",
                "source": "/bench",
                "type": kind,
                "subject": data["sku"],
                "time": f"2025-01-{1 + n % 28:02}T{n % 24:02}:{n % 60:02}:00Z",
                "data": data,
            }
            sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")


main()
