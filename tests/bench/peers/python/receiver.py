"""A receiver of WooCommerce's webhooks as most would write it in Python: Powertools and boto3. `make bench` measures it."""

import base64
import hashlib
import hmac
import json
import os

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities import parameters

logger = Logger(service="receiver")
sqs = boto3.client("sqs")
QUEUE = os.environ["INBOX_URL"]
# Whatever the first delivery needs is made ready while the function initialises.
secret = lambda: parameters.get_secret(os.environ["SIGNING_KEYS"], max_age=300).encode()  # noqa: E731
secret()


def handler(event, context):
    body = event.get("body") or ""
    raw = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    headers = event["headers"]
    code = base64.b64encode(hmac.new(secret(), raw, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(code, headers.get("x-wc-webhook-signature", "")):
        logger.warning("refused")
        return {"statusCode": 401}
    message = {
        "connection": event["pathParameters"]["connection"],
        "topic": headers.get("x-wc-webhook-topic"),
        "delivery": headers.get("x-wc-webhook-delivery-id"),
        "received": event["requestContext"]["timeEpoch"],
        "body": raw.decode(),
    }
    answer = sqs.send_message(QueueUrl=QUEUE, MessageBody=json.dumps(message))
    return {"statusCode": 200, "headers": {"x-message-id": answer["MessageId"]}}
