"""The local bundle, as the Python tests use it: its administration, and signed deliveries of a store of WooCommerce."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).parent.parent


def tools(*arguments):
    return subprocess.run([ROOT / ".local/tools", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def call(method, path, body, headers):
    request = urllib.request.Request(os.environ["API_URL"] + path, method=method, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def admin(method, connection, path="", body=None):
    headers = {"authorization": f"Bearer {tools('token')}", "content-type": "application/json"}
    status, text, _ = call(method, f"/admin/connections/woocommerce/{connection}{path}", json.dumps(body or {}).encode(), headers)
    return status, json.loads(text)


def deliver(connection, topic, body, delivery, expected=200, secret=None):
    """Delivers a body, signed with the webhook's secret or another one, asserts the status, and returns the answer's headers."""
    secret = secret or tools("secret", "woocommerce", connection, topic)
    resource, event = topic.split(".")
    headers = {
        "content-type": "application/json",
        "x-wc-webhook-source": f"https://{connection}/",
        "x-wc-webhook-topic": topic,
        "x-wc-webhook-resource": resource,
        "x-wc-webhook-event": event,
        "x-wc-webhook-signature": base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode(),
        "x-wc-webhook-id": "1",
        "x-wc-webhook-delivery-id": delivery,
    }
    status, text, answered = call("POST", f"/hooks/woocommerce/{connection}", body, headers)
    assert status == expected, (status, text)
    return answered
