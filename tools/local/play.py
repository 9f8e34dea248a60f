"""The commands `make run`, `make send` and `make state`. `make run` starts anew, sends the sample events of a recorded
store and those of a declared sender, installs the app at the simulated platforms, waits until each message has ended, and
prints one screen."""

import hmac
import json
import os
import pathlib
import shlex
import subprocess
import time

from common import LOCAL, ROOT, VERBOSE, Step, call, fail, say, wait_for
from show import bold, faint, show_all, summary, table

PLATFORM = "woocommerce"
CONNECTION = "shop.example.com"
# A declared sender, and the key that it signs with. It is public: only the local AWS accepts it.
DECLARED = "my-stripe"
DECLARED_KEY = "whsec_commerce-hooks-sample"
# API Gateway sets these itself.
NOT_SENT = {"host", "content-length", "accept-encoding"}
# The longest time for the queue, in seconds: longer than any budget of calls makes it wait.
PATIENCE = 300


def run(stack):
    started = time.monotonic()
    say("Builds commerce-hooks, deploys it on an AWS emulator of this machine, and lets five simulated platforms, a recorded store")
    say("and a sender that is described as data send webhooks to it. The first time takes some minutes, later ones less than one.\n")
    # Nothing is left of an earlier run.
    stack.stop()
    stack.up(["tools", "platforms"])
    since = int(time.time() * 1000) - 1000
    connect(stack)
    with Step(f"sending the sample events of {CONNECTION}"):
        recorded = [send(stack, event) for event in json.loads(tool(stack, "events", "--print", PLATFORM))]
    recorded += declared(stack)
    simulated, shown, page = platforms(stack)
    deliveries = recorded + simulated
    with Step("waiting until each message has ended"):
        found = wait_until_ended(stack, since, {delivery["message"] for delivery in deliveries if delivery["message"]})
    for delivery in deliveries:
        delivery["outcome"] = found.get(delivery["message"], "answered" if delivery["status"] == 200 else "refused").split(":")[0]
    known = {key: entities(stack, *key) for key in dict.fromkeys((d["platform"], d["connection"]) for d in deliveries)}
    if VERBOSE:
        show_all(recorded, simulated, shown, known)
    report(stack, deliveries, shown, known, page)
    say(f"\nThat took {time.monotonic() - started:.0f} s. `make stop` ends the local AWS and the simulated platforms.")
    if any(delivery["status"] != 200 for delivery in deliveries):
        fail("not every request was answered with 200")


def environment(stack):
    values = (line.split("=", 1) for line in (stack.dir / "env").read_text().splitlines())
    return stack.environment() | {name: "".join(shlex.split(value)) for name, value in values}


def tool(stack, *arguments):
    done = subprocess.run([LOCAL / "tools", *arguments], capture_output=True, text=True, env=environment(stack))
    if done.returncode:
        fail(f"tools {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def connect(stack):
    """Connects the recorded store by hand, as docs/platforms/woocommerce.md describes: somebody enters its webhooks."""
    put(stack, PLATFORM, CONNECTION, {"site": f"https://{CONNECTION}"})


def put(stack, platform, connection, settings):
    """Makes a connection with these settings."""
    token = tool(stack, "token").strip()
    url = f"{stack.state['api_url']}/admin/connections/{platform}/{connection}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    status, _, answer = call("PUT", url, json.dumps(settings).encode(), headers)
    if status != 200:
        fail(f"connecting {connection} failed: {status} {answer.decode()}")


def declared(stack):
    """Connects a sender that no code knows, by the preset that describes it, and returns what it sent."""
    put(stack, "custom", DECLARED, {"preset": "stripe", "keys": [{"id": "sample", "key": DECLARED_KEY}]})
    at, sent = int(time.time()), []
    with Step(f"sending as {DECLARED}, which docs/senders.md describes as data"):
        for topic, thing in [
            ("customer.created", {"id": "cus_1", "name": "Ada Lovelace", "email": "ada@mail.example"}),
            ("payment_intent.succeeded", {"id": "pi_1", "amount": 123456, "currency": "eur", "status": "succeeded", "customer": "cus_1"}),
        ]:
            event = {"id": f"evt_{topic}", "type": topic, "created": at, "data": {"object": thing | {"created": at}}}
            body = json.dumps(event)
            code = hmac.new(DECLARED_KEY.encode(), f"{at}.{body}".encode(), "sha256").hexdigest()
            headers = {"stripe-signature": f"t={at},v1={code}", "content-type": "application/json"}
            request = {"rawPath": f"/hooks/custom/{DECLARED}", "requestContext": {"http": {"method": "POST"}}, "headers": headers, "body": body}
            sent.append(send(stack, {"name": topic, "request": request}))
    return sent


def send(stack, event):
    """Sends a recorded request as API Gateway got it, and returns the delivery with its answer."""
    request = event["request"]
    method, body = request["requestContext"]["http"]["method"], request.get("body") or ""
    headers = {name: value for name, value in request["headers"].items() if name not in NOT_SENT}
    url = stack.state["api_url"] + request["rawPath"]
    status, answered, _ = call(method, url, body.encode() if body else None, headers)
    answered = {name.lower(): value for name, value in answered.items()}
    _, _, platform, connection, *_ = request["rawPath"].split("/")
    return {
        "name": event["name"],
        "platform": platform,
        "connection": connection,
        "scope": headers.get("x-wc-webhook-topic", event["name"].split("-", 1)[-1]),
        "id": entity_id(body),
        "status": status,
        "message": answered.get("x-message-id"),
        "trace": answered.get("x-trace-id"),
    }


def platforms(stack):
    """Starts the simulated platforms, which answer until `make stop`. After they have sent everything, returns their
    deliveries, the states of their webhooks, and the address of the page that a merchant sees."""
    running = stack.spawn("platforms", [LOCAL / "platforms"], environment(stack), stdout=subprocess.PIPE)
    deliveries, shown, page = [], [], None
    with Step("connecting five simulated platforms, and sending what happens there"):
        for line in running.stdout:
            line = json.loads(line)
            if "page" in line:
                return deliveries, shown, line["page"]
            (shown if "subscriptions" in line else deliveries).append(line)
        fail(f"the simulated platforms failed; see {stack.dir / 'platforms.log'}")


def entity_id(body):
    try:
        return str(json.loads(body)["id"])
    except ValueError:
        return ""


def ends(stack, since):
    """Returns the outcome of each message, from the processor's log."""
    logs, group = stack.client("logs"), stack.outputs()["ProcessorLogGroup"]
    found, token = {}, {}
    while True:
        page = logs.filter_log_events(logGroupName=group, startTime=since, **token)
        for event in page["events"]:
            try:
                line = json.loads(event["message"])
            except ValueError:
                continue
            if isinstance(line, dict) and line.get("event") == "batch":
                found |= {end["message_id"]: end["end"] for end in line["ends"]}
        if not page.get("nextToken") or page["nextToken"] == token.get("nextToken"):
            return found
        token = {"nextToken": page["nextToken"]}


def drained(stack):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    attributes = stack.client("sqs").get_queue_attributes(QueueUrl=stack.outputs()["InboxUrl"], AttributeNames=names)
    return all(attributes["Attributes"].get(name, "0") == "0" for name in names)


def wait_until_ended(stack, since, messages):
    """Waits until the processor has logged all these messages and the queue is empty, and returns the outcomes."""
    found = {}

    def ended():
        if not drained(stack):
            return False
        found.update(ends(stack, since))
        return messages <= found.keys()

    wait_for(ended, PATIENCE, f"the queue does not drain; see {stack.dir / 'ministack.log'}", every=0.5)
    return found


def entities(stack, platform, connection, kind=""):
    from boto3.dynamodb.types import TypeDeserializer

    read = TypeDeserializer().deserialize
    items, more = [], {}
    while True:
        answer = stack.client("dynamodb").query(
            TableName=stack.outputs()["EntitiesTable"],
            KeyConditionExpression="pk = :pk AND begins_with(sk, :kind)" if kind else "pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"{platform}#{connection}"}} | ({":kind": {"S": kind}} if kind else {}),
            **more,
        )
        items += [{name: read(value) for name, value in item.items()} for item in answer["Items"]]
        if "LastEvaluatedKey" not in answer:
            return sorted(items, key=lambda item: item["sk"])
        more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def report(stack, deliveries, shown, known, page):
    """Prints one screen: the deliveries of each platform with their outcomes, and next steps."""
    outcomes = [name for name in ["applied", "unchanged", "superseded", "split", "ignored", "deferred", "quarantined"]
                if any(delivery["outcome"] == name for delivery in deliveries)]
    webhooks = {(one["platform"], one["connection"]): one["subscriptions"] for one in shown}
    rows = []
    for (platform, connection), items in known.items():
        sent = [d["outcome"] for d in deliveries if (d["platform"], d["connection"]) == (platform, connection)]
        kinds = [item["sk"].split("#")[0] for item in items]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        rows.append([
            platform, connection, len(webhooks.get((platform, connection), [])) or "by hand", len(sent),
            *(sent.count(name) or "" for name in outcomes), counted,
        ])
    table("What was sent, and what became of it", ["platform", "connection", "webhooks", "sent", *outcomes, "entities"], rows)
    say(faint("\n  split: one delivery stood for several entities.  deferred: it waited, for the platform allows so many calls, and then ended."))
    where = (stack.dir / "env").relative_to(ROOT)
    print(f"\n{bold('Three things to try')}\n")
    for what, command in [
        ("Open the page that the merchant of the simulated BigCommerce store sees:", page),
        ("Send a delivery, signed with the sample key, and see what becomes of it:", "make send EVENT=woocommerce/018-order_created"),
        ("Read the state of a store:", f"make state PLATFORM={PLATFORM} CONNECTION={CONNECTION} KIND=order"),
    ]:
        print(f"  {what}\n    {command}")
    print(f"\n  The API is at {stack.state['api_url']}; `. {where}` sets its environment, and `VERBOSE=1 make run` shows every delivery.")


def up(stack):
    """Fails if no stack is running."""
    if not (stack.process("ministack") and stack.answers() and stack.state.get("deployed")):
        fail("nothing is running: `make run` first")


def send_one(stack, name):
    """Sends one of the sample events, and prints its outcome."""
    up(stack)
    files = ROOT / "events" / f"{name.removeprefix('events/').removesuffix('.json')}.json"
    if not files.exists():
        fail(f"there is no {files.relative_to(ROOT)}: EVENT={PLATFORM}/018-order_created is one of events/{PLATFORM}/")
    request = json.loads(files.read_text())
    since = int(time.time() * 1000) - 1000
    sent = send(stack, {"name": files.stem, "request": request})
    print(f"{sent['platform']} {sent['connection']} {sent['scope']}: answered {sent['status']}, trace {sent['trace']}", end="", flush=True)
    if sent["message"]:
        found = {}
        wait_for(
            lambda: found.update(ends(stack, since)) or sent["message"] in found, PATIENCE, "\nit has not ended", every=0.3
        )
        print(f", message {sent['message']}, {found[sent['message']]}", end="")
    print()


def state(stack, platform, connection, kind):
    """Prints the entities of a connection, one a line, or as JSON with `VERBOSE=1`."""
    if not platform or not connection:
        fail("PLATFORM and CONNECTION are needed: PLATFORM=woocommerce CONNECTION=shop.example.com")
    up(stack)
    items = entities(stack, platform, connection, f"{kind}#" if kind and "#" not in kind else kind)
    if not items:
        asked = f"{platform} {connection} {kind}".rstrip()
        fail(f"the table has nothing of {asked}: the screen of `make run` lists the platforms, connections and entities")
    for item in items:
        if VERBOSE:
            print(json.dumps(item, indent=2, default=str))
        else:
            print(f"{item['sk']:<24} {'deleted' if item['deleted'] else 'there':<8} {item['changed_at'][:23]:<24} {summary(item)}")
