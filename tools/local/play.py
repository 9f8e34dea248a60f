"""Plays all platforms: the recorded store's sample events, and the simulated platforms, through the HTTP endpoint. Waits until all
of it has ended, and prints what became of it."""

import contextlib
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


def environment(stack):
    values = dict(line.split("=", 1) for line in (stack.dir / "env").read_text().splitlines())
    return stack.environment() | {name: value.strip("'") for name, value in values.items()}


def tool(stack, *arguments):
    done = subprocess.run([LOCAL / "tools", *arguments], capture_output=True, text=True, env=environment(stack))
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
                "platform": PLATFORM,
                "connection": CONNECTION,
                "scope": headers.get("x-wc-webhook-topic", "ping"),
                "id": entity_id(request["body"]),
                "status": status,
                "message": answered.get("x-message-id"),
            }
        )
    return deliveries


@contextlib.contextmanager
def platforms(stack):
    """Runs the simulated platforms; gives their deliveries, and their subscriptions, once all have been sent. They answer until the end
    of the context."""
    log = (stack.dir / "platforms.log").open("wb")
    running = subprocess.Popen(
        [LOCAL / "platforms"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(stack)
    )
    try:
        deliveries, subscribed = [], []
        with Step("installing at the simulated platforms, letting things happen there, and sending what tells of them"):
            for line in running.stdout:
                line = json.loads(line)
                if line.get("ready"):
                    break
                (subscribed if "subscriptions" in line else deliveries).append(line)
            else:
                fail(f"the simulated platforms failed; see {stack.dir / 'platforms.log'}")
        yield deliveries, subscribed
    finally:
        running.stdin.close()
        running.wait(timeout=10)


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


def entities(stack, platform, connection):
    from boto3.dynamodb.types import TypeDeserializer

    read = TypeDeserializer().deserialize
    items, more = [], {}
    while True:
        answer = stack.client("dynamodb").query(
            TableName=stack.outputs()["EntitiesTable"],
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"{platform}#{connection}"}},
            **more,
        )
        items += [{name: read(value) for name, value in item.items()} for item in answer["Items"]]
        if "LastEvaluatedKey" not in answer:
            return sorted(items, key=lambda item: item["sk"])
        more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


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
    if kind in {"order", "cart"}:
        lines = ", ".join(f"{line['quantity']} x {line.get('name')}" for line in fields.get("lines", []))
        total = fields.get("totals", {}).get("total") or fields.get("total")
        payments = ", ".join(f"paid {p.get('amount')} {p.get('currency')}" for p in fields.get("payments", {}).values())
        parts = [fields.get("status"), f"{total} {fields.get('currency')}" if total else None, lines, payments]
        return ", ".join(part for part in parts if part) or "never seen"
    if kind in {"request", "subscription"}:
        quantities = ", ".join(f"{item.get('quantity')} x {item.get('sku')}" for item in fields.get("items", []))
        parts = [fields.get("kind"), fields.get("status"), fields.get("name"), quantities]
        return ", ".join(part for part in parts if part)
    if kind == "record":
        return fields.get("event", "an event without a name")
    return fields.get("code") or fields.get("name") or ""


def side_by_side(known):
    """How many entities of each kind there are at each platform."""
    kinds = dict.fromkeys(item["sk"].split("#")[0] for items in known.values() for item in items)
    rows = []
    for kind in sorted(kinds):
        cells = []
        for items in known.values():
            of = [item for item in items if item["sk"].startswith(f"{kind}#")]
            gone = sum(item["deleted"] for item in of)
            cells.append(f"{len(of) - gone}" + (f" and {gone} deleted" if gone else "") if of else "")
        rows.append([kind, *cells])
    table("The same kinds of entities, side by side", ["", *(platform for platform, _ in known)], rows)


def play(stack):
    since = int(time.time() * 1000) - 1000
    connect(stack)
    with Step(f"sending the sample events of {CONNECTION}"):
        recorded = send(stack)
    with platforms(stack) as (simulated, subscribed):
        report(stack, since, recorded, simulated, subscribed)


def subscriptions(subscribed):
    """What the registrar made and keeps at each platform, alike ones in one row."""
    rows = []
    for shown in subscribed:
        alike = {}
        for hook in shown["subscriptions"]:
            key = (hook["status"], hook["verdict"] or "", "seen" if hook.get("last_delivery") else "not yet")
            alike.setdefault(key, []).append(hook["scope"])
        for (status, verdict, seen), scopes in sorted(alike.items()):
            shortened = ", ".join(sorted(scopes))
            shortened = shortened if len(shortened) <= 90 else shortened[:87] + "..."
            rows.append([shown["platform"], shown["connection"], len(scopes), status, verdict, seen, shortened])
    columns = ["platform", "connection", "hooks", "at the platform", "health", "deliveries", "scopes"]
    table("The subscriptions", columns, rows)


def report(stack, since, recorded, simulated, subscribed):
    deliveries = recorded + simulated
    messages = {delivery["message"] for delivery in deliveries if delivery["message"]}
    found = {}

    def ended():
        found.update(ends(stack, since))
        return messages <= found.keys() and drained(stack)

    with Step("waiting until the queue is empty"):
        wait_for(ended, 300, f"the queue does not drain; see {stack.dir / 'ministack.log'}")
    for delivery in deliveries:
        delivery["outcome"] = found.get(delivery["message"], "answered" if delivery["status"] == 200 else "refused")
    subscriptions(subscribed)
    rows = [[d["name"][:3], d["scope"], d["id"], d["status"], d["outcome"]] for d in recorded]
    table(f"What came in from {PLATFORM}, as it was recorded", ["#", "scope", "id", "answer", "outcome"], rows)
    known = {}
    for platform, connection in dict.fromkeys((d["platform"], d["connection"]) for d in deliveries):
        if connection != CONNECTION:
            counted = {}
            for delivery in (d for d in simulated if d["platform"] == platform):
                key = (delivery["scope"], delivery["status"], delivery["outcome"].split(":")[0])
                counted[key] = counted.get(key, 0) + 1
            rows = [[count, *key] for key, count in sorted(counted.items())]
            table(f"What came in from {platform}, which is simulated", ["times", "scope", "answer", "outcome"], rows)
        items = known[platform, connection] = entities(stack, platform, connection)
        rows = [
            [i["sk"].replace("#", " ", 1)[:40], "deleted" if i["deleted"] else "there", summary(i)[:80], i["changed_at"][:23]]
            for i in items
        ]
        table(f"What is known of {platform} {connection} now", ["entity", "state", "last known as", "since"], rows)
    side_by_side(known)
    outcomes = [delivery["outcome"].split(":")[0] for delivery in deliveries]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in dict.fromkeys(outcomes))
    print(f"\n  {len(deliveries)} requests: {counts}.")
    where = (stack.dir / "env").relative_to(LOCAL.parent)
    print(f"  The stack is up at {stack.state['api_url']}; `. {where}` for its environment, `make stop` to end it.\n")
    if any(delivery["status"] != 200 for delivery in deliveries):
        fail("not every request was answered with 200")
