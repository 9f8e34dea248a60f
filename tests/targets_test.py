"""The templates in `examples/` that hand changes to other targets than a queue, deployed beside the local bundle."""

import json
import os
import time
import unittest

import boto3
from bundle import admin, deliver

CONNECTION = "targets.example.com"
# The longest wait in seconds for what is under way.
PATIENCE = 60


class Targets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sqs = boto3.client("sqs")
        cls.queue = sqs.create_queue(QueueName="behind-the-topic")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=cls.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "sns.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": os.environ["CHANGES_TOPIC"]}},
                }
            ],
        }
        sqs.set_queue_attributes(QueueUrl=cls.queue, Attributes={"Policy": json.dumps(policy)})
        boto3.client("sns").subscribe(TopicArn=os.environ["CHANGES_TOPIC"], Protocol="sqs", Endpoint=arn)
        status, shown = admin("PUT", CONNECTION, "", {"site": f"https://{CONNECTION}"})
        assert status == 200, shown
        order = {
            "id": 77, "status": "processing", "currency": "EUR", "total": "1.00", "customer_id": 0, "line_items": [],
            "date_created_gmt": "2026-11-02T10:00:00", "date_modified_gmt": "2026-11-20T10:00:00",
        }
        deliver(CONNECTION, "order.created", json.dumps(order).encode(), "first")

    def until(self, condition, what):
        started = time.monotonic()
        while not (value := condition()):
            self.assertLess(time.monotonic() - started, PATIENCE, what)
            time.sleep(0.2)
        return value

    def test_a_topic_gets_the_changes(self):
        def taken():
            messages = boto3.client("sqs").receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
            events = [json.loads(json.loads(message["Body"])["Message"]) for message in messages]
            return [event for event in events if event["detail"]["source"] == f"/woocommerce/{CONNECTION}"]

        [event] = self.until(taken, "the topic gets the order")
        self.assertEqual((event["detail-type"], event["detail"]["subject"]), ("order.created", "order/77"))

    def test_a_function_gets_the_changes(self):
        group = f"/aws/lambda/{os.environ['CHANGES_FUNCTION']}"

        def logged():
            logs = boto3.client("logs")
            try:
                events = logs.filter_log_events(logGroupName=group)["events"]
            except logs.exceptions.ResourceNotFoundException:
                # The first event makes it.
                return []
            return [event["message"] for event in events if CONNECTION in event["message"]]

        [line] = self.until(logged, "the function gets the order")
        self.assertTrue(line.startswith(f"order.created /woocommerce/{CONNECTION} order/77 "), line)


if __name__ == "__main__":
    unittest.main()
