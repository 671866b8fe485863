#!/usr/bin/env python3
"""Sends events of the contract (CloudEvents 1.0 JSON, docs/events.md) to Tollgate's topic, as a producer of yours would.

    pip install -r requirements.txt
    producer.py --bootstrap localhost:9092 --topic tollgate.events                  a small shop, made up
    producer.py --bootstrap localhost:9092 --topic tollgate.events --file FILE      a file, one event a line; - for stdin

What matters, and why:
  - The key is the event's subject, and the partitioner Kafka's default one (murmur2): all events of one SKU are in one partition, in the
    order in which they were sent. Tollgate puts aside what lies in another partition.
  - acks=all and enable.idempotence: what was acknowledged is there, once, in order, whatever was sent again underneath.
  - `source` and `id` name an event for good. A program that was killed sends from its own last checkpoint again, with the same ids: what
    was there already counts once.
  - The queue is bounded. When it is full, the program waits instead of growing.
  - It ends when every event was acknowledged or refused, and says so.
"""
import argparse
import json
import random
import sys
from datetime import datetime, timezone

from confluent_kafka import KafkaError, KafkaException, Producer

REQUIRED = ("specversion", "id", "source", "type", "subject", "time", "data")


class Sender:
    def __init__(self, bootstrap, topic, settings):
        self.topic, self.delivered, self.refused, self.trouble = topic, 0, [], ""
        self.producer = Producer({
            # Above librdkafka's own 1,000,000: Tollgate takes events of 1 MiB, and the message's frame comes on top.
            "message.max.bytes": 1_114_112,
            # What librdkafka would log is told once, at the end.
            "log_level": 0,
            "error_cb": self.failed,
            **settings,
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 10_000,
        })

    def send(self, event):
        payload = json.dumps(event, separators=(",", ":"))
        while True:
            try:
                self.producer.produce(self.topic, key=event["subject"], value=payload, on_delivery=self.told)
                break
            except BufferError:
                self.producer.poll(0.1)
        self.producer.poll(0)

    def told(self, error, message):
        if error is None:
            self.delivered += 1
        else:
            self.refused.append(f"{message.key().decode()}: {error}")

    def failed(self, error):
        # That all brokers are down says less than why the first one was.
        if not self.trouble or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.trouble = f" ({error.str()})"

    def finish(self, seconds=60):
        left = self.producer.flush(seconds)
        if left:
            raise SystemExit(
                f"error: {left} events were not acknowledged within {seconds} s{self.trouble}: look whether the brokers run, then send all again")
        if self.refused:
            raise SystemExit(f"error: {len(self.refused)} events were refused, the first one: {self.refused[0]}")
        print(f"delivered {self.delivered} events to {self.topic}")


def shop(count, seed):
    """A made-up shop: products, counts, prices, sales; a copy now and then, and a sale that is taken back."""
    rng, now = random.Random(seed), datetime.now(timezone.utc)

    def event(number, kind, sku, data):
        return {
            "specversion": "1.0", "id": f"{seed}-{number}", "source": "/examples/producer", "type": kind, "subject": sku,
            "time": now.isoformat().replace("+00:00", "Z"), "data": data,
        }

    skus, number, sales = [f"EX-{n:03}" for n in range(20)], 0, []
    for sku in skus:
        yield event(number, "catalog.product.upserted", sku, {
            "sku": sku, "title": f"Example {sku}", "brand": rng.choice(["Alba", "Birk"]), "category": "Tea", "supplier": "S1"})
        yield event(number + 1, "inventory.counted", sku, {"sku": sku, "location": "BER-1", "onHand": 100, "reserved": 0})
        yield event(number + 2, "price.set", sku, {"sku": sku, "market": "DE", "currency": "EUR", "amount": f"{rng.randint(2, 90)}.90"})
        number += 3
    while number < count:
        sku = rng.choice(skus)
        sale = event(number, "inventory.adjusted", sku, {"sku": sku, "location": "BER-1", "delta": -rng.randint(1, 3), "reason": "sale"})
        yield sale
        sales.append(sale)
        number += 1
        if rng.random() < 0.1:
            yield rng.choice(sales)
        if rng.random() < 0.05:
            undone = rng.choice(sales)
            yield event(number, "event.compensated", undone["subject"], {"compensates": undone["id"], "reason": "returned"})
            number += 1


def lines(file):
    for number, line in enumerate(sys.stdin if file == "-" else open(file, encoding="utf-8"), 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError as error:
            raise SystemExit(f"error: line {number} of {file} is not JSON: {error}")
        missing = [name for name in REQUIRED if name not in event] if isinstance(event, dict) else REQUIRED
        if missing:
            raise SystemExit(f"error: line {number} of {file} has no {missing[0]}: see docs/events.md")
        if not isinstance(event["subject"], str) or not event["subject"]:
            raise SystemExit(f"error: line {number} of {file} has a subject that is no text: it is the message's key, see docs/events.md")
        yield event


def main():
    parser = argparse.ArgumentParser(description="Sends events to Tollgate's topic.")
    parser.add_argument("--bootstrap", required=True, help="HOST:PORT of a broker; several with commas between")
    parser.add_argument("--topic", default="tollgate.events")
    parser.add_argument("--file", help="one event a line; - for stdin")
    parser.add_argument("--count", type=int, default=200, help="events of the made-up shop, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="more for librdkafka, such as security.protocol=SASL_SSL")
    arguments = parser.parse_args()
    try:
        sender = Sender(arguments.bootstrap, arguments.topic, dict(pair.split("=", 1) for pair in arguments.set))
        for event in lines(arguments.file) if arguments.file else shop(arguments.count, arguments.seed):
            sender.send(event)
        sender.finish()
    except (KafkaException, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}")


if __name__ == "__main__":
    main()
