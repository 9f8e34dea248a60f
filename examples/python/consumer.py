"""Keeps a copy of the state in SQLite, from the change events on a queue (see ../changes-to-a-queue.yaml).

    python consumer.py QUEUE_URL ENTITIES_TABLE copy.db              # runs until it is stopped
    python consumer.py QUEUE_URL ENTITIES_TABLE copy.db --once       # ends when the queue is empty
"""

import json
import sqlite3
import sys

import boto3

TABLE = """CREATE TABLE IF NOT EXISTS entities (
    source TEXT, subject TEXT, sequence TEXT NOT NULL, deleted INTEGER NOT NULL, entity TEXT, PRIMARY KEY (source, subject))"""
# The rule for readers: what is not later than what is here changes nothing.
UPSERT = """INSERT INTO entities VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET sequence = excluded.sequence, deleted = excluded.deleted, entity = excluded.entity
    WHERE excluded.sequence > entities.sequence"""


def row(event, state):
    source, subject, sequence = event["source"], event["subject"], event["sequence"]
    deleted, entity = event["data"]["deleted"], event["data"].get("entity")
    if event["data"]["detail"] == "ids":
        # The stack sends ids only, or the entity was too large for an event: the table has it.
        key = {"pk": source[1:].replace("/", "#", 1), "sk": subject.replace("/", "#", 1)}
        if item := state.get_item(Key=key, ConsistentRead=True).get("Item"):
            sequence, deleted, entity = item["changed_at"], item.get("deleted", False), item.get("fields")
    return source, subject, sequence, deleted, entity and json.dumps(entity, default=int)


def follow(queue, state, copy, once):
    sqs = boto3.client("sqs")
    while True:
        wait = 1 if once else 20
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait).get("Messages", [])
        if once and not messages:
            return
        with copy:
            copy.executemany(UPSERT, [row(json.loads(message["Body"])["detail"], state) for message in messages])
        # Only what is committed is taken off the queue.
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    queue, table, path, *options = sys.argv[1:]
    with sqlite3.connect(path) as copy:
        copy.execute(TABLE)
        follow(queue, boto3.resource("dynamodb").Table(table), copy, "--once" in options)
