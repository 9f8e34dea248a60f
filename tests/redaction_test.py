"""A person is redacted in the local bundle, and is then named nowhere: in no table, no queue and no log. His deliveries, sent once
more, do not bring him back."""

import json
import os
import time
import unittest

import boto3
from bundle import admin, deliver

CONNECTION = "redact.example.com"
NAME, EMAIL = "Zuckmayer-Quandt", "zenobia.quandt@mail.example"
# The longest wait in seconds for what is under way.
PATIENCE = 60


CUSTOMER = {
    "id": 7, "role": "customer", "email": EMAIL, "first_name": "Zenobia", "last_name": NAME, "date_created_gmt": "2026-11-01T10:00:00",
    "date_modified_gmt": "2026-11-20T10:00:00", "billing": {"last_name": NAME, "email": EMAIL, "country": "AT"},
}
ORDER = {
    "id": 13, "status": "processing", "currency": "EUR", "total": "12.00", "customer_id": 7, "line_items": [],
    "date_created_gmt": "2026-11-02T10:00:00", "date_modified_gmt": "2026-11-20T10:00:00", "customer_note": f"ring at {NAME}",
    "billing": {"last_name": NAME, "email": EMAIL, "country": "AT"}, "meta_data": [{"id": 1, "key": "greeting", "value": f"Dear {NAME}"}],
}
# Signed, and no JSON.
BROKEN = json.dumps(ORDER).encode()[:-3]


def dump():
    """Returns everything that the stack keeps, as text: the tables, the queues and the logs."""
    dynamodb, sqs, logs = boto3.client("dynamodb"), boto3.client("sqs"), boto3.client("logs")
    found = {}
    for table in ["ENTITIES_TABLE", "CONNECTIONS_TABLE", "COORDINATION_TABLE", "PROOF_KEYS_TABLE", "SENDERS_TABLE"]:
        pages = dynamodb.get_paginator("scan").paginate(TableName=os.environ[table], ConsistentRead=True)
        found[table] = json.dumps([item for page in pages for item in page["Items"]])
    for queue in ["INBOX_URL", "DLQ_URL", "JOBS_URL", "FAILED_JOBS_URL"]:
        bodies, handles = [], []
        while messages := sqs.receive_message(QueueUrl=os.environ[queue], MaxNumberOfMessages=10, VisibilityTimeout=20).get("Messages"):
            bodies += [message["Body"] for message in messages]
            handles += [message["ReceiptHandle"] for message in messages]
        for handle in handles:
            sqs.change_message_visibility(QueueUrl=os.environ[queue], ReceiptHandle=handle, VisibilityTimeout=0)
        found[queue] = json.dumps(bodies)
    group = os.environ["PROCESSOR_LOGS"].removesuffix("-processor")
    for log in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=log["logGroupName"])
        found[log["logGroupName"]] = json.dumps([event["message"] for page in pages for event in page["events"]])
    return found


def naming(found):
    """Returns the places that name the person, packed bodies included."""
    return sorted(place for place, text in found.items() if NAME.lower() in text.lower() or EMAIL in text.lower())


class Redaction(unittest.TestCase):
    def until(self, condition, what):
        started = time.monotonic()
        while not (value := condition()):
            self.assertLess(time.monotonic() - started, PATIENCE, what)
            time.sleep(0.2)
        return value

    def item(self, sort):
        key = {"pk": {"S": f"woocommerce#{CONNECTION}"}, "sk": {"S": sort}}
        found = boto3.client("dynamodb").get_item(TableName=os.environ["ENTITIES_TABLE"], Key=key, ConsistentRead=True)
        return found.get("Item")

    def letters(self):
        return dump()["DLQ_URL"].count(CONNECTION)

    def merged(self):
        """Returns how many messages about WooCommerce the processor has merged so far, by its log. The inbox tells less: it has
        what other tests left there to come back later."""
        logs = boto3.client("logs").get_paginator("filter_log_events")
        pages = logs.paginate(logGroupName=os.environ["PROCESSOR_LOGS"])
        lines = [event["message"] for page in pages for event in page["events"] if event["message"].startswith("{")]
        counts = [json.loads(line) for line in lines if '"Messages"' in line]
        merges = [count for count in counts if count["outcome"] in ["applied", "unchanged", "superseded"]]
        return sum(count["Messages"] for count in merges if count["platform"] == "woocommerce")

    def test_a_redacted_person_is_named_nowhere_and_does_not_come_back(self):
        status, shown = admin("PUT", CONNECTION, "", {"site": f"https://{CONNECTION}"})
        self.assertEqual(status, 200, shown)
        deliveries = [("customer.created", json.dumps(CUSTOMER).encode()), ("order.created", json.dumps(ORDER).encode())]
        for number, (topic, body) in enumerate(deliveries):
            deliver(CONNECTION, topic, body, f"first-{number}")
        deliver(CONNECTION, "order.updated", BROKEN, "broken")
        self.until(lambda: self.item("customer#7") and self.item("order#13"), "the deliveries become state")
        self.until(self.letters, "the broken one is put aside")
        self.assertIn("ENTITIES_TABLE", naming(dump()))
        self.assertIn("DLQ_URL", naming(dump()))

        status, receipt = admin("POST", CONNECTION, "/redact", {"email": EMAIL})
        self.assertEqual(status, 202, receipt)
        done = lambda: (answer := admin("POST", CONNECTION, "/redact", {"email": EMAIL})[1])["done"] and answer
        receipt = self.until(done, "the redaction ends")
        self.assertEqual(receipt["redacted"], {"customer": ["7"], "order": ["13"]})
        self.assertEqual(receipt["dead_letters"], 1)
        order = self.item("order#13")
        self.assertEqual(order["fields"]["M"]["totals"], {"M": {"total": {"S": "12.00"}}})
        self.assertTrue(order["redacted"]["BOOL"])
        self.assertEqual(naming(dump()), [])

        before = self.merged()
        for number, (topic, body) in enumerate(deliveries):
            deliver(CONNECTION, topic, body, f"again-{number}")
        paid = ORDER | {"status": "completed", "date_modified_gmt": "2026-11-20T11:00:00"}
        deliver(CONNECTION, "order.updated", json.dumps(paid).encode(), "late")
        self.until(lambda: self.item("order#13")["fields"]["M"]["status"]["S"] == "completed", "the late one becomes state")
        self.until(lambda: self.merged() >= before + 3, "all three are processed")
        self.assertEqual(naming(dump()), [])


if __name__ == "__main__":
    unittest.main()
