// Keeps a copy of the state in SQLite, from the change events on a queue (see ../changes-to-a-queue.yaml).
//
//     npm ci && npm run build
//     npm start -- QUEUE_URL ENTITIES_TABLE copy.db            # runs until it is stopped
//     npm start -- QUEUE_URL ENTITIES_TABLE copy.db --once     # ends when the queue is empty

import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DeleteMessageCommand, ReceiveMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { DynamoDBDocumentClient, GetCommand } from "@aws-sdk/lib-dynamodb";
import sqlite from "node-sqlite3-wasm";
import type { ChangeEvent } from "changes";

const TABLE = `CREATE TABLE IF NOT EXISTS entities (
  source TEXT, subject TEXT, sequence TEXT NOT NULL, deleted INTEGER NOT NULL, entity TEXT, PRIMARY KEY (source, subject))`;
// The rule for readers: what is not later than what is here changes nothing.
const UPSERT = `INSERT INTO entities VALUES (?, ?, ?, ?, ?)
  ON CONFLICT DO UPDATE SET sequence = excluded.sequence, deleted = excluded.deleted, entity = excluded.entity
  WHERE excluded.sequence > entities.sequence`;

const [queue, table, path, ...options] = process.argv.slice(2);
const sqs = new SQSClient({});
const state = DynamoDBDocumentClient.from(new DynamoDBClient({}));

async function row(event: ChangeEvent): Promise<(string | number | null)[]> {
  let { sequence, data: { deleted, entity } } = event;
  if (event.data.detail === "ids") {
    // The stack sends ids only, or the entity was too large for an event: the table has it.
    const Key = { pk: event.source.slice(1).replace("/", "#"), sk: event.subject.replace("/", "#") };
    const { Item } = await state.send(new GetCommand({ TableName: table, Key, ConsistentRead: true }));
    if (Item) ({ changed_at: sequence, deleted = false, fields: entity } = Item);
  }
  return [event.source, event.subject, sequence, deleted ? 1 : 0, entity ? JSON.stringify(entity) : null];
}

const copy = new sqlite.Database(path);
copy.exec(TABLE);
for (;;) {
  const wait = options.includes("--once") ? 1 : 20;
  const receive = new ReceiveMessageCommand({ QueueUrl: queue, MaxNumberOfMessages: 10, WaitTimeSeconds: wait });
  const { Messages: messages = [] } = await sqs.send(receive);
  if (options.includes("--once") && messages.length === 0) break;
  const rows = await Promise.all(messages.map((message) => row(JSON.parse(message.Body!).detail)));
  copy.exec("BEGIN");
  rows.forEach((values) => copy.run(UPSERT, values));
  copy.exec("COMMIT");
  // Only what is committed is taken off the queue.
  for (const { ReceiptHandle } of messages) await sqs.send(new DeleteMessageCommand({ QueueUrl: queue, ReceiptHandle }));
}
copy.close();
