"""The consumers in `examples/`, each on a queue behind the local bundle's bus. What the tests before did to the state comes to
them shuffled and doubled, and their copy ends equal to the table."""

import json
import os
import pathlib
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

import boto3
from boto3.dynamodb.types import TypeDeserializer

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
QUEUE = os.environ["CONSUMER_QUEUE"]
# The longest wait in seconds for events that are under way.
PATIENCE = 60


def taken(sqs):
    """Takes everything off the queue, and returns the bodies."""
    bodies = []
    while messages := sqs.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10).get("Messages"):
        bodies += [message["Body"] for message in messages]
        for message in messages:
            sqs.delete_message(QueueUrl=QUEUE, ReceiptHandle=message["ReceiptHandle"])
    return bodies


def table():
    """Returns what the table shows of each entity, by connection and entity."""
    value = TypeDeserializer().deserialize
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=os.environ["ENTITIES_TABLE"], ConsistentRead=True)
    items = [{name: value(typed) for name, typed in item.items()} for page in pages for item in page["Items"]]
    return {(item["pk"], item["sk"]): (item["changed_at"], item.get("deleted", False), item.get("fields")) for item in items}


def copied(path):
    """Returns a consumer's copy in the same form. What is erased is in it without content."""
    with sqlite3.connect(path) as copy:
        rows = copy.execute("SELECT source, subject, sequence, deleted, entity FROM entities").fetchall()
    key = lambda source, subject: (source[1:].replace("/", "#", 1), subject.replace("/", "#", 1))
    return {key(*row[:2]): (row[2], bool(row[3]), json.loads(row[4]) if row[4] else None) for row in rows}


class Consumers(unittest.TestCase):
    told = []

    def test_the_copies_equal_the_table(self):
        """One consumer after another gets everything that was told so far, as a new reader would."""
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        for name, command in [
            ("Python", [sys.executable, EXAMPLES / "python/consumer.py"]),
            ("Rust", [target / "debug/consumer"]),
            ("TypeScript", ["node", EXAMPLES / "typescript/dist/consumer.js"]),
        ]:
            with self.subTest(name):
                self.follows(command)

    def follows(self, command):
        sqs, path = boto3.client("sqs"), pathlib.Path(tempfile.mkdtemp()) / "copy.db"
        told, kinds, started, earlier = 0, set(), time.monotonic(), self.told[:]
        while True:
            new = taken(sqs)
            self.told.extend(new)
            bodies = (earlier + new) * 2
            earlier = []
            random.Random(7).shuffle(bodies)
            for body in bodies:
                sqs.send_message(QueueUrl=QUEUE, MessageBody=body)
            told += len(bodies)
            kinds |= {json.loads(body)["detail-type"].split(".")[1] for body in bodies}
            subprocess.run([*command, QUEUE, os.environ["ENTITIES_TABLE"], path, "--once"], check=True)
            here, there = copied(path), table()
            erased = {key for key in here.keys() - there.keys() if here[key][1:] == (True, None)}
            differs = {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)} - erased
            if not differs:
                break
            self.assertLess(time.monotonic() - started, PATIENCE, [(key, here.get(key), there.get(key)) for key in differs][:3])
        self.assertGreater(len(there), 50)
        self.assertGreater(told, 2 * len(here), "many are told more than once, and not only because they were doubled")
        self.assertLessEqual({"created", "updated", "deleted"}, kinds)


if __name__ == "__main__":
    unittest.main()
