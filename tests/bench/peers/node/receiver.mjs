// A receiver of WooCommerce's webhooks as most would write it for Node: Powertools and the AWS SDK v3. `make bench`
// measures it.

import { createHmac, timingSafeEqual } from "node:crypto";
import { Logger } from "@aws-lambda-powertools/logger";
import { getSecret } from "@aws-lambda-powertools/parameters/secrets";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const logger = new Logger({ serviceName: "receiver" });
// The stub of AWS computes no MD5, so the client cannot compare it.
const sqs = new SQSClient({ md5: false });
const secret = () => getSecret(process.env.SIGNING_KEYS, { maxAge: 300 });
// Whatever the first delivery needs is made ready while the function initialises.
await secret();

export const handler = async (event) => {
  const raw = Buffer.from(event.body ?? "", event.isBase64Encoded ? "base64" : "utf8");
  const code = createHmac("sha256", await secret()).update(raw).digest();
  const given = Buffer.from(event.headers["x-wc-webhook-signature"] ?? "", "base64");
  if (given.length !== code.length || !timingSafeEqual(given, code)) {
    logger.warn("refused");
    return { statusCode: 401 };
  }
  const message = {
    connection: event.pathParameters.connection,
    topic: event.headers["x-wc-webhook-topic"],
    delivery: event.headers["x-wc-webhook-delivery-id"],
    received: event.requestContext.timeEpoch,
    body: raw.toString("utf8"),
  };
  const command = new SendMessageCommand({ QueueUrl: process.env.INBOX_URL, MessageBody: JSON.stringify(message) });
  const answer = await sqs.send(command);
  return { statusCode: 200, headers: { "x-message-id": answer.MessageId } };
};
