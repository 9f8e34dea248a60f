"""The command that follows one delivery by the id that its sender was given: queue, outcome, entity, events and endpoints.

    trace.py ID [HOURS]     ID is the `x-trace-id` or the `x-message-id` of the answer; HOURS says how far to look back

It reads the functions' logs and the entity, and changes nothing. It exits with 1 if no log knows the id.
"""

import json
import os
import re
import sys
import time

from common import enter_venv, fail

# The functions in the order in which a delivery passes them.
FUNCTIONS = ["receiver", "processor", "publisher", "sender", "registrar"]
# The hours to look back without a word about it: what is under way for longer has an alarm.
HOURS = 24
# Ids of API Gateway, of function URLs and of SQS.
ID = re.compile(r"[A-Za-z0-9=_+/.:-]{4,128}")


class Logs:
    """The logs of a stack's functions."""

    def __init__(self, client, prefix, since_ms):
        self.client, self.prefix, self.since_ms = client, prefix, since_ms

    def naming(self, trace):
        """Returns the lines that name an id: function, time and line, in the order of the functions and of time."""
        found = []
        for function in FUNCTIONS:
            pages = self.client.get_paginator("filter_log_events").paginate(
                logGroupName=f"{self.prefix}-{function}", startTime=self.since_ms, filterPattern=f'"{trace}"'
            )
            try:
                events = [event for page in pages for event in page["events"]]
            except self.client.exceptions.ResourceNotFoundException:
                # A stack without change events has no publisher, and one without webhooks no sender.
                continue
            for event in sorted(events, key=lambda event: event["timestamp"]):
                line = read(event["message"])
                if line is not None:
                    found.append((function, event["timestamp"], line))
        return found


def read(text):
    """Returns a line of the log, or `None` for what is none of ours, such as the runtime's own words."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def names(line, trace):
    """Returns whether a line is about a delivery, and not only quotes its id."""
    return line.get("trace") == trace or trace in line.get("traces", [])


def trace_of(lines, sought):
    """Returns the trace id that an id stands for: itself, or that of the message which it is the id of."""
    if any(names(line, sought) for _, _, line in lines):
        return sought
    for _, _, line in lines:
        if line.get("message_id") == sought and "trace" in line:
            return line["trace"]
        for end in line.get("ends", []):
            if isinstance(end, dict) and end.get("message_id") == sought:
                return end["trace"]
    return None


def steps(lines, trace):
    """Returns what became of a delivery, function after function: time, function and words for each step."""
    told = []
    for function, at, line in lines:
        if not names(line, trace) or "_aws" in line:
            continue
        event = line.get("event")
        if event == "queued":
            told.append((at, function, f"proven for {line['connection']}, queued as message {line['message_id']}"))
        elif event == "refused":
            told.append((at, function, f"refused for {line['platform']}#{line['connection']}: {line['why']}"))
        elif event == "batch":
            for end in line["ends"]:
                if end["trace"] == trace:
                    told.append((at, function, f"{about(end)}message {end['message_id']}: {end['end']}"))
        elif event == "published":
            for one in line["events"]:
                if one["trace"] == trace:
                    told.append((at, function, f"{one['subject']}: event {one['id']}, {one['type']}"))
        elif event == "deliveries":
            for end in line["ends"]:
                if end["trace"] == trace:
                    told.append((at, function, f"event {end['id']} to endpoint {end['endpoint']}: {end['end']}"))
        else:
            said = [str(line[name]) for name in ["reason", "detail", "why"] if line.get(name)]
            told.append((at, function, f"{event}{': ' if said else ''}{', '.join(said)}"))
    return told


def about(end):
    return f"{end['entity']}, " if "entity" in end else ""


def ends(lines, trace):
    """Returns what the processor says of the delivery's messages, in the order of time."""
    batches = [line for function, _, line in lines if function == "processor" and line.get("event") == "batch"]
    return [end for line in batches for end in line["ends"] if end["trace"] == trace]


def connection_of(lines, trace):
    queued = [line for _, _, line in lines if line.get("event") == "queued" and names(line, trace)]
    return queued[0]["connection"] if queued else None


def entity_words(dynamodb, table, connection, entity, trace):
    """Returns what the table says of an entity, and whether the delivery was the last to write it."""
    sort = entity.replace("/", "#", 1)
    found = dynamodb.get_item(TableName=table, Key={"pk": {"S": connection}, "sk": {"S": sort}}, ConsistentRead=True)
    item = found.get("Item")
    if item is None:
        return f"{connection} {sort} is not in the table"
    last = item.get("x", {}).get("S")
    by = "this delivery was the last to write it" if last == trace else f"the last to write it was {last or 'an older release'}"
    shown = "deleted" if item["deleted"]["BOOL"] else "there"
    return f"{connection} {sort} is {shown}, changed at {item['changed_at']['S']}; {by}"


def next_step(lines, trace, waiting):
    """Returns what to do next, or `None` when the delivery has come to its end. `waiting` are the messages in the inbox."""
    ended = ends(lines, trace)
    if any(line.get("event") == "refused" for _, _, line in lines):
        return "It was not proven, so nothing was kept. The sender's secret and the clock are the usual causes (docs/operations.md, RefusalsAlarm)."
    if any(line.get("event") in ["not-queued", "no-keys", "no-sender"] for _, _, line in lines):
        return "It was answered with 503, for the sender to send it again. What was sent again has an id of its own."
    if not ended:
        return f"No batch has had it yet. The inbox holds {waiting} messages; look again, or see BacklogAlarm in docs/operations.md."
    # The last word on each message counts.
    last = {end["message_id"]: end["end"] for end in ended}
    aside = sorted({end.split(": ", 1)[1] for end in last.values() if end.startswith("quarantined: ")})
    if aside:
        reason = aside[0]
        return f"It was put aside as {reason}. Mend the cause (docs/operations.md#{reason}), then: make redrive REASON={reason} RUN=1"
    if any(end.split(":")[0] in ["failed", "unfinished"] for end in last.values()):
        return "A message of it comes back by itself. The lines above say what failed; look again in a minute."
    return None


def variable(name):
    value = os.environ.get(name)
    if not value:
        fail(f"{name} is missing: `make run` makes .local/env, `make env` one for a stack on AWS")
    return value


def arguments(given):
    """Returns the id and the hours."""
    if not 1 <= len(given) <= 2 or not given[0]:
        fail("Give the id that the sender was given, the `x-trace-id` of the answer: make trace ID=…")
    if not ID.fullmatch(given[0]):
        fail(f"{given[0]!r} is no id: it is the `x-trace-id` or the `x-message-id` of the answer")
    hours = given[1] if len(given) == 2 else str(HOURS)
    if not hours.isdigit() or not 1 <= int(hours) <= 24 * 90:
        fail(f"HOURS must be a whole number from 1 to {24 * 90}, not {hours!r}")
    return given[0], int(hours)


def main():
    sought, hours = arguments(sys.argv[1:])
    enter_venv()
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    prefix = variable("PROCESSOR_LOGS").removesuffix("-processor")
    logs = Logs(boto3.client("logs"), prefix, int((time.time() - hours * 3600) * 1000))
    try:
        lines = logs.naming(sought)
        trace = trace_of(lines, sought)
        if trace is None:
            fail(
                f"No log of {prefix}-* has named {sought} within {hours} hours. Lines may take a minute to show; "
                f"look again, or further back: make trace ID={sought} HOURS={min(hours * 3, 24 * 90)}"
            )
        if trace != sought:
            lines = logs.naming(trace)
        print(f"trace {trace}")
        for at, function, words in steps(lines, trace):
            second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000))
            print(f"  {second}.{at % 1000:03}Z  {function:<9}  {words}")
        connection = connection_of(lines, trace)
        for entity in sorted({end["entity"] for end in ends(lines, trace) if "entity" in end}):
            if connection:
                words = entity_words(boto3.client("dynamodb"), variable("ENTITIES_TABLE"), connection, entity, trace)
                print(f"  entity: {words}")
        asked = boto3.client("sqs").get_queue_attributes(QueueUrl=variable("INBOX_URL"), AttributeNames=["All"])["Attributes"]
        counted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        step = next_step(lines, trace, sum(int(asked.get(name, 0)) for name in counted))
        if step:
            print(f"next: {step}")
    except (BotoCoreError, ClientError) as error:
        fail(f"AWS cannot be asked: {error}. It takes logs:FilterLogEvents, dynamodb:GetItem and sqs:GetQueueAttributes.")


if __name__ == "__main__":
    main()
