"""Tests of the functions' roles as deployed on the local AWS, which lets the functions do nothing else. They run after
the tests against the deployed bundle, because everything that the functions did there was asked of AWS under these
roles."""

import os
import unittest

import boto3

ENTITIES, CONNECTIONS = os.environ["ENTITIES_TABLE"], os.environ["CONNECTIONS_TABLE"]
FUNCTIONS = ["receiver", "processor", "publisher", "sender", "registrar"]


def client(service):
    return boto3.client(service)


def table(name):
    return client("dynamodb").describe_table(TableName=name)["Table"]["TableArn"]


def stream(name):
    return client("dynamodb").describe_table(TableName=name)["Table"]["LatestStreamArn"]


def queue(variable):
    return client("sqs").get_queue_attributes(QueueUrl=os.environ[variable], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def bus(variable):
    return client("events").describe_event_bus(Name=os.environ[variable])["Arn"]


def secret(variable):
    return client("secretsmanager").describe_secret(SecretId=os.environ[variable])["ARN"]


class Roles(unittest.TestCase):
    def role(self, function):
        roles = [role["Arn"] for role in client("iam").list_roles()["Roles"] if f"{function.title()}Role" in role["RoleName"]]
        self.assertEqual(len(roles), 1, function)
        return roles[0]

    def decision(self, function, action, resource):
        answer = client("iam").simulate_principal_policy(
            PolicySourceArn=self.role(function), ActionNames=[action], ResourceArns=[resource]
        )
        return answer["EvaluationResults"][0]["EvalDecision"]

    def test_nothing_that_a_function_asked_for_was_denied(self):
        for function in FUNCTIONS:
            group = f"/aws/lambda/commerce-hooks-{function}"
            pages = client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
            lines = [event["message"] for page in pages for event in page["events"]]
            self.assertTrue(lines, f"{function} has run")
            self.assertEqual([line for line in lines if "AccessDenied" in line], [], function)

    def test_a_role_may_do_what_its_function_does_and_no_more(self):
        admin, signing = secret("ADMIN_KEY"), secret("SIGNING_KEYS")
        may = [
            ("receiver", "sqs:SendMessage", queue("INBOX_URL")),
            ("receiver", "secretsmanager:GetSecretValue", signing),
            ("processor", "dynamodb:PutItem", table(ENTITIES)),
            ("processor", "sqs:DeleteMessage", queue("DLQ_URL")),
            ("publisher", "events:PutEvents", bus("CHANGES_BUS")),
            ("sender", "sqs:SendMessage", queue("DELIVERIES_URL")),
            ("processor", "events:PutEvents", bus("CHANGES_BUS")),
            *[("publisher", f"dynamodb:{action}", stream(ENTITIES)) for action in ["GetRecords", "GetShardIterator", "DescribeStream"]],
            ("registrar", "secretsmanager:GetSecretValue", admin),
            ("registrar", "dynamodb:PutItem", table(CONNECTIONS)),
        ]
        may_not = [
            ("receiver", "dynamodb:PutItem", table(ENTITIES)),
            ("receiver", "dynamodb:GetItem", table(CONNECTIONS)),
            ("receiver", "secretsmanager:GetSecretValue", admin),
            ("receiver", "secretsmanager:PutSecretValue", signing),
            ("receiver", "sqs:SendMessage", queue("JOBS_URL")),
            ("receiver", "sqs:ReceiveMessage", queue("DLQ_URL")),
            ("processor", "dynamodb:PutItem", table(CONNECTIONS)),
            ("processor", "dynamodb:Scan", table(ENTITIES)),
            ("processor", "secretsmanager:GetSecretValue", signing),
            ("sender", "dynamodb:GetItem", table(ENTITIES)),
            ("sender", "dynamodb:PutItem", table(CONNECTIONS)),
            ("sender", "sqs:SendMessage", queue("INBOX_URL")),
            ("publisher", "dynamodb:GetItem", table(ENTITIES)),
            ("publisher", "sqs:SendMessage", queue("INBOX_URL")),
            ("registrar", "events:PutEvents", bus("CHANGES_BUS")),
            ("registrar", "dynamodb:PutItem", table(ENTITIES)),
            ("registrar", "dynamodb:DeleteItem", table(ENTITIES)),
            ("registrar", "secretsmanager:PutSecretValue", admin),
            ("registrar", "sqs:SendMessage", queue("DLQ_URL")),
        ]
        for function, action, resource in may:
            self.assertEqual(self.decision(function, action, resource), "allowed", (function, action, resource))
        for function, action, resource in may_not:
            self.assertEqual(self.decision(function, action, resource), "implicitDeny", (function, action, resource))


if __name__ == "__main__":
    unittest.main()
