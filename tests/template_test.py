"""What template.yaml must keep: numbers that depend on each other, what stays when the stack goes, and who may do what."""

import pathlib
import unittest

from samcli.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "template.yaml").read_text()
TEMPLATE = yaml_parse(TEXT)
RESOURCES = TEMPLATE["Resources"]


def default(name):
    return TEMPLATE["Parameters"][name]["Default"]


def of_type(kind):
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


def statements(function):
    for policy in RESOURCES[function]["Properties"]["Policies"]:
        yield from policy["Statement"]


def actions(function):
    found = set()
    for statement in statements(function):
        listed = statement["Action"]
        found |= {listed} if isinstance(listed, str) else set(listed)
    return found


class Template(unittest.TestCase):
    def test_the_visibility_timeout_is_six_times_the_processor_s_plus_the_window(self):
        self.assertEqual(default("VisibilityTimeout"), 6 * default("ProcessorTimeout") + default("BatchingWindow"))
        self.assertEqual(RESOURCES["Inbox"]["Properties"]["VisibilityTimeout"], {"Ref": "VisibilityTimeout"})

    def test_the_defaults(self):
        expected = {"ReceiverTimeout": 10, "ProcessorTimeout": 60, "BatchSize": 10, "BatchingWindow": 1,
                    "MaximumConcurrency": 20, "Architecture": "arm64", "AllowLoopbackPlatforms": "false", "PublicBaseUrl": ""}
        self.assertEqual({name: default(name) for name in expected}, expected)

    def test_what_holds_data_stays_when_the_stack_goes(self):
        kinds = ["AWS::DynamoDB::Table", "AWS::SecretsManager::Secret", "AWS::KMS::Key"]
        kept = {name: resource for kind in kinds for name, resource in of_type(kind).items()}
        self.assertEqual(set(kept), {"Entities", "Connections", "Coordination", "ProofKeys",
                                     "SigningKeys", "AdminKey", "AppCredentials", "CredentialsKey"})
        for name, resource in kept.items():
            self.assertEqual((resource["DeletionPolicy"], resource["UpdateReplacePolicy"]), ("Retain", "Retain"), name)

    def test_tables_are_on_demand_encrypted_and_recoverable(self):
        for name, table in of_type("AWS::DynamoDB::Table").items():
            properties = table["Properties"]
            self.assertEqual(properties["BillingMode"], "PAY_PER_REQUEST", name)
            self.assertTrue(properties["SSESpecification"]["SSEEnabled"], name)
            # Notes expire; there is nothing to go back to.
            recoverable = "PointInTimeRecoverySpecification" in properties
            self.assertEqual(recoverable, name != "Coordination", name)
            if recoverable:
                self.assertTrue(properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], name)
        stream = RESOURCES["Entities"]["Properties"]["StreamSpecification"]
        self.assertEqual(stream["StreamViewType"], "NEW_AND_OLD_IMAGES")

    def test_queues_keep_two_weeks_and_are_encrypted(self):
        queues = of_type("AWS::SQS::Queue")
        self.assertEqual(set(queues), {"Inbox", "DeadLetters", "Jobs", "FailedJobs"})
        for name, queue in queues.items():
            # A job is a hint that the next sweep makes again.
            days = 4 if name == "Jobs" else 14
            self.assertEqual(queue["Properties"]["MessageRetentionPeriod"], days * 24 * 60 * 60, name)
            self.assertTrue(queue["Properties"]["SqsManagedSseEnabled"], name)
        self.assertEqual(queues["Inbox"]["Properties"]["RedrivePolicy"]["maxReceiveCount"], 20)

    def test_each_function_may_do_what_it_does_and_no_more(self):
        self.assertEqual(actions("Receiver"), {"sqs:SendMessage", "sqs:GetQueueAttributes", "secretsmanager:GetSecretValue",
                                               "dynamodb:GetItem"})
        self.assertEqual(
            actions("Processor"),
            {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes",
             "sqs:SendMessage", "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query",
             "dynamodb:BatchWriteItem", "kms:Decrypt"},
        )
        self.assertEqual(
            actions("Registrar"),
            {"dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "kms:Encrypt",
             "kms:Decrypt", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", "sqs:ReceiveMessage",
             "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:SendMessage"},
        )
        for function in of_type("AWS::Serverless::Function"):
            for statement in statements(function):
                self.assertNotEqual(statement["Resource"], "*", function)

    def test_only_the_registrar_writes_connections_and_reads_the_admin_key(self):
        for function in ["Receiver", "Processor"]:
            for statement in statements(function):
                resource = str(statement["Resource"])
                self.assertNotIn("AdminKey", resource)
                if "Connections" in resource:
                    self.assertEqual((function, statement["Action"]), ("Processor", "dynamodb:BatchGetItem"))
                if function == "Receiver" and "dynamodb" in str(statement["Action"]):
                    self.assertEqual(resource, str({"Fn::GetAtt": ["ProofKeys", "Arn"]}))
                if function == "Processor":
                    self.assertNotIn("ProofKeys", resource)
                    self.assertNotIn("AppCredentials", resource)

    def test_connections_can_be_listed_in_parts(self):
        [index] = RESOURCES["Connections"]["Properties"]["GlobalSecondaryIndexes"]
        self.assertEqual(index["IndexName"], "listing")
        self.assertEqual([key["AttributeName"] for key in index["KeySchema"]], ["shard", "listed"])
        # Nothing of a connection's credentials or settings is in the index.
        self.assertEqual(set(index["Projection"]["NonKeyAttributes"]), {"status", "site", "signed_with"})

    def test_the_schedule_may_call_the_registrar_and_nothing_else(self):
        [policy] = RESOURCES["SweepRole"]["Properties"]["Policies"]
        [statement] = policy["PolicyDocument"]["Statement"]
        self.assertEqual(statement["Action"], "lambda:InvokeFunction")
        self.assertEqual(statement["Resource"], {"Fn::GetAtt": ["Registrar", "Arn"]})
        self.assertEqual(RESOURCES["SweepSchedule"]["Properties"]["Target"]["Input"], '{"schedule":"sweep"}')

    def test_the_registrar_s_queue_waits_for_six_of_its_timeouts(self):
        timeout = RESOURCES["Registrar"]["Properties"]["Timeout"]
        self.assertGreaterEqual(RESOURCES["Jobs"]["Properties"]["VisibilityTimeout"], 6 * timeout)

    def test_a_generated_key_cannot_be_taken_for_a_ring(self):
        for name, secret in of_type("AWS::SecretsManager::Secret").items():
            if name == "AppCredentials":
                self.assertEqual(secret["Properties"]["SecretString"], "{}")
                continue
            generated = secret["Properties"]["GenerateSecretString"]
            self.assertIn("{", generated["ExcludeCharacters"], name)
            self.assertGreaterEqual(generated["PasswordLength"], 32, name)

    def test_functions_log_json_with_metrics(self):
        for name, function in of_type("AWS::Serverless::Function").items():
            logging = function["Properties"]["LoggingConfig"]
            levels = (logging["LogFormat"], logging["ApplicationLogLevel"], logging["SystemLogLevel"])
            self.assertEqual(levels, ("JSON", "INFO", "WARN"), name)

    def test_failures_are_reported_for_each_message(self):
        mapping = RESOURCES["ProcessorEvents"]["Properties"]
        self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])

    def test_alarms_go_to_the_topic(self):
        alarms = of_type("AWS::CloudWatch::Alarm")
        metrics = {alarm["Properties"]["MetricName"] for alarm in alarms.values()}
        expected = {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "SubscriptionsSwitchedOff",
                    "FetchesStopped"}
        self.assertEqual(metrics, expected)
        for name, alarm in alarms.items():
            self.assertEqual(alarm["Properties"]["AlarmActions"], [{"Ref": "Alarms"}], name)

    def test_our_own_metrics_are_watched_with_dimensions_that_are_emitted(self):
        source = (ROOT / "shared/cloud/src/telemetry.rs").read_text()
        for name, alarm in of_type("AWS::CloudWatch::Alarm").items():
            properties = alarm["Properties"]
            if properties["Namespace"] == "CommerceHooks":
                self.assertNotIn("Dimensions", properties, name)
                self.assertIn('"Dimensions": [[], ["platform"]]', source, name)

    def test_what_anybody_may_ask_is_throttled_and_hooks_are_not(self):
        routes = {route["Properties"]["RouteKey"] for route in of_type("AWS::ApiGatewayV2::Route").values()}
        throttled = set(RESOURCES["ApiStage"]["Properties"]["RouteSettings"])
        self.assertEqual(throttled, {route for route in routes if "/hooks/" not in route})

    def test_credentials_are_opened_for_their_purpose_only(self):
        for function in ["Processor", "Registrar"]:
            opening = [one for one in statements(function) if "kms:Decrypt" in str(one["Action"])]
            self.assertEqual([one["Condition"] for one in opening],
                             [{"StringEquals": {"kms:EncryptionContext:purpose": "credentials"}}], function)

    def test_it_names_no_platform(self):
        folders = (ROOT / "shared/commerce/src/platforms").iterdir()
        for platform in [folder.name for folder in folders if folder.is_dir()]:
            self.assertNotIn(platform, TEXT.lower())


if __name__ == "__main__":
    unittest.main()
