"""Plays the sample events through the HTTP endpoint, waits until all of them have ended, and prints what became of them."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

from local import LOCAL, Step, fail, wait_for

PLATFORM = "woocommerce"
CONNECTION = "shop.example.com"
# API Gateway sets these itself.
NOT_SENT = {"host", "content-length", "accept-encoding"}


def call(method, url, body, headers):
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, dict(answer.headers), answer.read()


def tool(stack, *arguments):
    values = dict(line.split("=", 1) for line in (stack.dir / "env").read_text().splitlines())
    values = {name: value.strip("'") for name, value in values.items()}
    done = subprocess.run([LOCAL / "tools", *arguments], capture_output=True, text=True, env=stack.environment() | values)
    if done.returncode:
        fail(f"tools {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def connect(stack):
    """By hand, as README.md tells: the connection is known, and its webhooks are entered at the store by somebody."""
    token = tool(stack, "token").strip()
    url = f"{stack.state['api_url']}/admin/connections/{PLATFORM}/{CONNECTION}"
    body = json.dumps({"site": f"https://{CONNECTION}"}).encode()
    status, _, answer = call("PUT", url, body, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    if status != 200:
        fail(f"connecting {CONNECTION} failed: {status} {answer.decode()}")


def send(stack):
    deliveries = []
    for event in json.loads(tool(stack, "events", "--print", PLATFORM)):
        request = event["request"]
        headers = {name: value for name, value in request["headers"].items() if name not in NOT_SENT}
        url = stack.state["api_url"] + request["rawPath"]
        status, answered, _ = call("POST", url, request["body"].encode(), headers)
        answered = {name.lower(): value for name, value in answered.items()}
        deliveries.append(
            {
                "name": event["name"],
                "scope": headers.get("x-wc-webhook-topic", "ping"),
                "id": entity_id(request["body"]),
                "status": status,
                "message": answered.get("x-message-id"),
            }
        )
    return deliveries


def entity_id(body):
    try:
        return str(json.loads(body)["id"])
    except ValueError:
        return ""


def ends(stack, since):
    """What the processor said of each message, from its log."""
    logs = stack.client("logs")
    found, token = {}, {}
    while True:
        page = logs.filter_log_events(logGroupName=stack.outputs()["ProcessorLogGroup"], startTime=since, **token)
        for event in page["events"]:
            try:
                line = json.loads(event["message"])
            except ValueError:
                continue
            if isinstance(line, dict) and line.get("event") == "batch":
                found |= line["ends"]
        if not page.get("nextToken") or page["nextToken"] == token.get("nextToken"):
            return found
        token = {"nextToken": page["nextToken"]}


def drained(stack):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    attributes = stack.client("sqs").get_queue_attributes(QueueUrl=stack.outputs()["InboxUrl"], AttributeNames=names)
    return all(attributes["Attributes"].get(name, "0") == "0" for name in names)


def entities(stack):
    from boto3.dynamodb.types import TypeDeserializer

    read = TypeDeserializer().deserialize
    answer = stack.client("dynamodb").query(
        TableName=stack.outputs()["EntitiesTable"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"{PLATFORM}#{CONNECTION}"}},
    )
    return [{name: read(value) for name, value in item.items()} for item in answer["Items"]]


class Ink:
    """Colours, where there is somebody to see them."""

    def __init__(self):
        self.on = sys.stdout.isatty()

    def __call__(self, text, code):
        return f"\033[{code}m{text}\033[0m" if self.on else text


INK = Ink()
COLOURS = {"applied": 32, "unchanged": 90, "superseded": 33, "ignored": 90, "quarantined": 31, "answered": 36, "deleted": 31}


def table(title, columns, rows):
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows)]
    print(f"\n{INK(title, 1)}\n")
    print("  " + INK("  ".join(name.ljust(width) for name, width in zip(columns, widths)), 2))
    for row in rows:
        cells = []
        for cell, width in zip(row, widths):
            text = str(cell).ljust(width)
            colour = COLOURS.get(str(cell).split(":")[0])
            cells.append(INK(text, colour) if colour else text)
        print("  " + "  ".join(cells).rstrip())


def summary(item):
    fields, kind = item.get("fields", {}), item["sk"].split("#")[0]
    person = f"{fields.get('first_name', '')} {fields.get('last_name', '')}".strip()
    if kind == "customer":
        return f"{person} <{fields.get('email', '')}>"
    if kind == "product":
        parts = [fields.get("name"), fields.get("sku"), fields.get("price"), fields.get("stock", {}).get("quantity")]
        named = zip(["", "", "price ", "stock "], parts)
        return ", ".join(f"{name}{part}" for name, part in named if part is not None) or "never seen; only its delete was"
    if kind == "order":
        lines = ", ".join(f"{line['quantity']} x {line.get('name')}" for line in fields.get("lines", []))
        total = fields.get("totals", {}).get("total")
        return f"{fields.get('status')}, {total} {fields.get('currency')}: {lines}" if fields else "never seen"
    return fields.get("code", "")


def play(stack):
    since = int(time.time() * 1000) - 1000
    connect(stack)
    with Step(f"sending the sample events of {CONNECTION}"):
        deliveries = send(stack)
    messages = {delivery["message"] for delivery in deliveries if delivery["message"]}
    found = {}

    def ended():
        found.update(ends(stack, since))
        return messages <= found.keys() and drained(stack)

    with Step("waiting until the queue is empty"):
        wait_for(ended, 120, f"the queue does not drain; see {stack.dir / 'ministack.log'}")
    for delivery in deliveries:
        delivery["outcome"] = found.get(delivery["message"], "answered" if delivery["status"] == 200 else "refused")
    rows = [[d["name"][:3], d["scope"], d["id"], d["status"], d["outcome"]] for d in deliveries]
    table("What came in", ["#", "scope", "id", "answer", "outcome"], rows)
    items = sorted(entities(stack), key=lambda item: item["sk"])
    rows = [[i["sk"].replace("#", " "), "deleted" if i["deleted"] else "there", summary(i), i["changed_at"][:23]] for i in items]
    table(f"What is known of {CONNECTION} now", ["entity", "state", "last known as", "since"], rows)
    outcomes = [delivery["outcome"].split(":")[0] for delivery in deliveries]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in dict.fromkeys(outcomes))
    print(f"\n  {len(deliveries)} requests: {counts}.")
    where = (stack.dir / "env").relative_to(LOCAL.parent)
    print(f"  The stack is up at {stack.state['api_url']}; `. {where}` for its environment, `make stop` to end it.\n")
    if any(delivery["status"] != 200 for delivery in deliveries):
        fail("not every request was answered with 200")
