"""Tests of template.yaml: numbers that depend on each other, resources that stay when the stack goes, and roles."""

import json
import pathlib
import re
import sys
import unittest

from ministack.services.cloudformation.engine import _check_rules_section, _evaluate_rules, _resolve_parameters
from samcli.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "template.yaml").read_text()
TEMPLATE = yaml_parse(TEXT)
RESOURCES = TEMPLATE["Resources"]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
OWN = {"Fn::Sub": "CommerceHooks/${AWS::StackName}"}

sys.path.insert(0, str(ROOT / "tools/local"))
from local import for_this_machine  # noqa: E402
from retained import IDENTIFIERS, import_of  # noqa: E402


def default(name):
    return TEMPLATE["Parameters"][name]["Default"]


def of_type(kind):
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


def statements(function):
    """Returns the statements of a function's role, except the optional one for tracing, which has no resource to name."""
    for policy in RESOURCES[f"{function}Role"]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            condition, meant, _ = statement.get("Fn::If", [None, statement, None])
            if condition != "IsTraced":
                yield meant


def actions(function):
    found = set()
    for statement in statements(function):
        listed = statement["Action"]
        found |= {listed} if isinstance(listed, str) else set(listed)
    return found


def refusal(**given):
    """Returns why CloudFormation would refuse these parameters, as the local AWS evaluates the rules, or `None`."""
    given = [{"Key": name, "Value": str(value)} for name, value in given.items()]
    try:
        _evaluate_rules(TEMPLATE, _resolve_parameters(TEMPLATE, given), {})
    except ValueError as error:
        return str(error)
    return None


def dimensions_of_emitters():
    """Returns the sets of dimensions with which each function of the telemetry emits a metric, from its source."""
    source = (ROOT / "shared/cloud/src/telemetry.rs").read_text().split("#[cfg(test)]")[0]
    bodies = dict(re.findall(r"^(?:pub )?fn (\w+)\((.*?)^}", source, re.MULTILINE | re.DOTALL))
    found = {name: re.findall(r'"Dimensions"(?:\]\s*=\s*json!\(|:\s*)(\[\[.*?\]\])', body) for name, body in bodies.items()}
    found["durations"] = found["count"] if "count(metric, platform" in bodies["durations"] else []
    return {name: {text for text in texts} for name, texts in found.items()}, bodies


def emitted():
    """Returns the metrics that the functions emit, each with its sets of dimensions, from the source, and those from their logs."""
    emitters, bodies = dimensions_of_emitters()
    sets = lambda emitter, **names: {
        frozenset(names.get(name, name) for name in one)
        for text in emitters[emitter]
        for one in json.loads(re.sub(r"(?<=\[)(\w+)(?=,)", r'"\1"', text))
    }
    sources = [path.read_text() for folder in ["functions", "shared"] for path in (ROOT / folder).rglob("*.rs")]
    found = {}
    for emitter, name in re.findall(r"telemetry::(count|count_entity|durations)\(\s*\"([A-Za-z]+)\"", "\n".join(sources)):
        found.setdefault(name, set()).update(sets(emitter))
    for body in bodies.values():
        for name, dimension in re.findall(r'counted\("(\w+)", "(\w+)"', body):
            found.setdefault(name, set()).update(sets("counted", dimension=dimension))
    [drift] = re.findall(r'"Name": "(\w+)"', bodies["drift"])
    found[drift] = sets("drift")
    for metric_filter in of_type("AWS::Logs::MetricFilter").values():
        for transformation in metric_filter["Properties"]["MetricTransformations"]:
            found[transformation["MetricName"]] = {frozenset()}
    return found


def dashboard():
    """Returns the text of the dashboard, and its widgets with the names of resources and parameters in their places."""
    text, _ = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    return text, json.loads(re.sub(r"\$\{([\w:.]+)\}", r"\1", text))["widgets"]


def shown():
    """Returns the metrics that the dashboard shows: namespace, name and dimensions, with their values where they are named."""
    for widget in dashboard()[1]:
        for metric in widget["properties"].get("metrics", []):
            parts = [part for part in metric if isinstance(part, str)]
            if parts:
                yield parts[0], parts[1], dict(zip(parts[2::2], parts[3::2]))
            for schema, name in re.findall(r"SEARCH\('\{(.*?)\} MetricName=\"(\w+)\"", metric[-1].get("expression", "") if not parts else ""):
                namespace, *dimensions = schema.split(",")
                yield namespace.strip('"'), name, dict.fromkeys(dimensions)


class Template(unittest.TestCase):
    def test_the_visibility_timeout_is_six_times_the_processor_s_plus_the_window(self):
        self.assertEqual(default("VisibilityTimeout"), 6 * default("ProcessorTimeout") + default("BatchingWindow"))
        self.assertEqual(RESOURCES["Inbox"]["Properties"]["VisibilityTimeout"], {"Ref": "VisibilityTimeout"})

    def test_the_defaults(self):
        expected = {"ReceiverTimeout": 10, "ProcessorTimeout": 60, "BatchSize": 10, "BatchingWindow": 1,
                    "MaximumConcurrency": 20, "AllowLoopbackPlatforms": "false", "PublicBaseUrl": "", "LocalBaseUrl": "",
                    "RequestRate": 500, "RequestBurst": 1000, "ReservedReceivers": 0, "ReservedProcessors": 0,
                    "ReservedRegistrars": 0, "Tracing": "PassThrough"}
        self.assertEqual({name: default(name) for name in expected}, expected)

    def test_what_holds_data_stays_when_the_stack_goes(self):
        kinds = ["AWS::DynamoDB::Table", "AWS::SecretsManager::Secret", "AWS::KMS::Key"]
        kept = {name: resource for kind in kinds for name, resource in of_type(kind).items()}
        self.assertEqual(set(kept), {"Entities", "Connections", "Coordination", "ProofKeys", "Senders",
                                     "SigningKeys", "AdminKey", "AppCredentials", "CredentialsKey"})
        for name, resource in kept.items():
            policies = (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
            # A first deployment that fails leaves nothing behind.
            self.assertEqual(policies, ("RetainExceptOnCreate", "Retain"), name)

    def test_what_stayed_can_be_imported(self):
        kept = {name: resource for kind in IDENTIFIERS for name, resource in of_type(kind).items()}
        template, resources = import_of(TEMPLATE, {name: f"the {name}" for name in kept})
        self.assertEqual(set(template["Resources"]), set(kept))
        found = {one["LogicalResourceId"]: (one["ResourceType"], one["ResourceIdentifier"]) for one in resources}
        for name, resource in kept.items():
            kind = resource["Type"]
            self.assertEqual(found[name], (kind, {IDENTIFIERS[kind]: f"the {name}"}))
            # It stands alone, and refers to nothing else in the template.
            self.assertNotIn("'Ref'", str(template["Resources"][name]))
            self.assertNotIn("Fn::GetAtt", str(template["Resources"][name]))
        with self.assertRaises(SystemExit):
            import_of(TEMPLATE, {"Entities": "one"})

    def test_tables_are_on_demand_encrypted_and_recoverable(self):
        for name, table in of_type("AWS::DynamoDB::Table").items():
            properties = table["Properties"]
            self.assertEqual(properties["BillingMode"], "PAY_PER_REQUEST", name)
            self.assertTrue(properties["SSESpecification"]["SSEEnabled"], name)
            # Notes expire, so there is nothing to restore.
            recoverable = "PointInTimeRecoverySpecification" in properties
            self.assertEqual(recoverable, name != "Coordination", name)
            if recoverable:
                self.assertTrue(properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], name)
        stream = RESOURCES["Entities"]["Properties"]["StreamSpecification"]
        self.assertEqual(stream["StreamViewType"], "NEW_AND_OLD_IMAGES")

    def test_queues_keep_two_weeks_and_are_encrypted(self):
        queues = of_type("AWS::SQS::Queue")
        self.assertEqual(set(queues), {"Inbox", "DeadLetters", "Jobs", "FailedJobs", "Untold", "Outgoing", "Unsent", "Deliveries", "Undelivered"})
        for name, queue in queues.items():
            # A job is a hint that the next sweep makes again. A delivery is tried for three days.
            days = 4 if name in {"Jobs", "Outgoing", "Deliveries"} else 14
            self.assertEqual(queue["Properties"]["MessageRetentionPeriod"], days * 24 * 60 * 60, name)
            self.assertTrue(queue["Properties"]["SqsManagedSseEnabled"], name)
            # The code relies on this size, in bytes.
            self.assertEqual(queue["Properties"]["MaximumMessageSize"], 1024 * 1024, name)
        self.assertEqual(queues["Inbox"]["Properties"]["RedrivePolicy"]["maxReceiveCount"], 20)

    def test_each_function_may_do_what_it_does_and_no_more(self):
        log = {"logs:CreateLogStream", "logs:PutLogEvents"}
        self.assertEqual(actions("Receiver"), log | {"sqs:SendMessage", "sqs:GetQueueAttributes",
                                                     "secretsmanager:GetSecretValue", "dynamodb:Scan", "dynamodb:GetItem"})
        self.assertEqual(
            actions("Processor"),
            log | {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes",
             "sqs:SendMessage", "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query",
             "dynamodb:BatchWriteItem", "kms:Decrypt", "events:PutEvents"},
        )
        self.assertEqual(
            actions("Registrar"),
            log | {"dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "kms:Encrypt",
             "kms:Decrypt", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", "sqs:ReceiveMessage",
             "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:SendMessage"},
        )
        self.assertEqual(
            actions("Publisher"),
            log | {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams",
             "events:PutEvents", "sqs:SendMessage"},
        )
        self.assertEqual(
            actions("Sender"),
            log | {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:SendMessage",
             "dynamodb:Query", "dynamodb:GetItem", "dynamodb:PutItem", "kms:Decrypt"},
        )
        for function in of_type("AWS::Serverless::Function"):
            for statement in statements(function):
                self.assertNotEqual(statement["Resource"], "*", function)
                if "logs:PutLogEvents" in statement["Action"]:
                    self.assertEqual(statement["Resource"], {"Fn::GetAtt": [f"{function}Logs", "Arn"]})

    def test_roles_are_the_template_s_own(self):
        # With a role of its own, SAM adds no managed policy, which would let a function write to any log group.
        for name, function in of_type("AWS::Serverless::Function").items():
            properties = function["Properties"]
            self.assertEqual(properties["Role"], {"Fn::GetAtt": [f"{name}Role", "Arn"]})
            self.assertNotIn("Policies", properties)
            self.assertNotIn("ManagedPolicyArns", RESOURCES[f"{name}Role"]["Properties"])

    def test_chains_of_messages_are_not_cut(self):
        # Lambda ends a chain of invocations through a queue at about 16, and blocks the message. Backfills, sweeps,
        # lists, deferrals and erasing are longer chains here, and each ends by itself. No queue calls the receiver.
        loops = {name: function["Properties"].get("RecursiveLoop") for name, function in of_type("AWS::Serverless::Function").items()}
        self.assertEqual(
            loops, {"Receiver": None, "Processor": "Allow", "Registrar": "Allow", "Publisher": None, "Sender": "Allow"}
        )

    def test_there_is_one_front_door(self):
        api = {name for name, resource in RESOURCES.items() if resource["Type"].startswith("AWS::ApiGatewayV2::")}
        conditions = {name: resource.get("Condition") for name, resource in RESOURCES.items()}
        self.assertEqual({conditions[name] for name in api}, {"HasHttpApi"})
        urls = of_type("AWS::CloudFormation::Stack")
        functions = {name: url["Properties"]["Parameters"]["Function"]["Ref"] for name, url in urls.items()}
        self.assertEqual(functions, {"ReceiverUrl": "Receiver", "RegistrarUrl": "Registrar"})
        self.assertEqual({conditions[name] for name in urls}, {"HasFunctionUrls"})
        url = yaml_parse((ROOT / "functions/url.yaml").read_text())["Resources"]
        # Lambda requires both before it lets anybody in by a function URL.
        allowed = {one["Properties"]["Action"] for one in url.values() if one["Type"] == "AWS::Lambda::Permission"}
        self.assertEqual(allowed, {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"})
        for one in url.values():
            properties = one["Properties"]
            if one["Type"] == "AWS::Lambda::Permission":
                self.assertTrue(properties.get("FunctionUrlAuthType") == "NONE" or properties.get("InvokedViaFunctionUrl"))

    def test_what_is_built_is_what_is_deployed(self):
        # `sam build` knows no answer of `sam deploy --guided`, so the architecture is not a parameter.
        self.assertEqual(TEMPLATE["Globals"]["Function"]["Architectures"], ["arm64"])
        self.assertFalse([name for name in TEMPLATE["Parameters"] if "arch" in name.lower()])
        for name, function in of_type("AWS::Serverless::Function").items():
            self.assertNotIn("Architectures", function["Properties"], name)
        built = for_this_machine(TEXT)
        changed = [(a, b) for a, b in zip(TEXT.splitlines(), built.splitlines(), strict=True) if a != b]
        self.assertLessEqual(len(changed), 1)
        self.assertIn(yaml_parse(built)["Globals"]["Function"]["Architectures"], (["arm64"], ["x86_64"]))

    def test_combinations_that_fail_late_are_refused_first(self):
        _check_rules_section(TEMPLATE)
        public, local = "https://hooks.example.com", "http://127.0.0.1:4566/_aws/execute-api/abc/$default"
        taken = [
            {}, {"PublicBaseUrl": public}, {"AllowLoopbackPlatforms": "true", "LocalBaseUrl": local},
            {"BatchSize": 100, "BatchingWindow": 1}, {"BatchSize": 10, "BatchingWindow": 0},
            {"ProcessorTimeout": 900, "VisibilityTimeout": 5401}, {"ProcessorTimeout": 20, "VisibilityTimeout": 181},
        ]
        for given in taken:
            self.assertIsNone(refusal(**given), given)
        refused = [
            ("AllowLoopbackPlatforms", {"AllowLoopbackPlatforms": "true"}),
            ("AllowLoopbackPlatforms", {"AllowLoopbackPlatforms": "true", "PublicBaseUrl": public}),
            ("AllowLoopbackPlatforms", {"AllowLoopbackPlatforms": "true", "PublicBaseUrl": public, "LocalBaseUrl": local}),
            ("LocalBaseUrl", {"LocalBaseUrl": local}),
            ("LocalBaseUrl", {"AllowLoopbackPlatforms": "true", "LocalBaseUrl": "http://10.0.0.1"}),
            ("PublicBaseUrl", {"PublicBaseUrl": "http://hooks.example.com"}),
            ("BatchSize", {"BatchSize": 11, "BatchingWindow": 0}),
            ("BatchSize", {"BatchSize": 100, "BatchingWindow": 0}),
        ]
        for name, given in refused:
            self.assertIn(name, refusal(**given) or "", given)
        timeouts = TEMPLATE["Parameters"]["ProcessorTimeout"]["AllowedValues"]
        hidden = TEMPLATE["Parameters"]["VisibilityTimeout"]["AllowedValues"]
        for timeout in timeouts:
            for seconds in hidden:
                why = refusal(ProcessorTimeout=timeout, VisibilityTimeout=seconds)
                self.assertEqual(why is None, seconds >= 6 * timeout, (timeout, seconds, why))

    def test_two_stacks_share_nothing_by_name(self):
        variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
        self.assertEqual(variables["METRICS_NAMESPACE"], OWN)
        body, _ = dashboard()
        self.assertEqual(body.count("CommerceHooks/"), body.count("CommerceHooks/${AWS::StackName}"))
        # Dashboards are global, so one in another region needs another name.
        self.assertEqual(RESOURCES["Dashboard"]["Properties"]["DashboardName"], {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"})
        for kind in ["AWS::Logs::LogGroup", "AWS::Scheduler::ScheduleGroup"]:
            for name, resource in of_type(kind).items():
                named = resource["Properties"].get("LogGroupName") or resource["Properties"].get("Name")
                self.assertIn("${AWS::StackName}", named["Fn::Sub"], name)

    def test_the_access_log_keeps_no_address(self):
        settings = RESOURCES["ApiStage"]["Properties"]["AccessLogSettings"]
        self.assertEqual(settings["DestinationArn"], {"Fn::GetAtt": ["AccessLogs", "Arn"]})
        used = set(re.findall(r"\$context\.([A-Za-z.]+)", settings["Format"]))
        self.assertLessEqual({"requestId", "routeKey", "status", "identity.sourceIp"}, used)
        # A page's address can hold a token.
        self.assertFalse(used & {"path", "rawPath", "queryString", "extendedRequestId.path"})

    def test_concurrency_is_reserved_only_when_asked_for(self):
        for name, function in of_type("AWS::Serverless::Function").items():
            expected = {"Fn::If": [f"Reserves{name}s", {"Ref": f"Reserved{name}s"}, {"Ref": "AWS::NoValue"}]}
            # The stream's shards bound the publisher, and the mappings of its queues the sender.
            expected = None if name in {"Publisher", "Sender"} else expected
            self.assertEqual(function["Properties"].get("ReservedConcurrentExecutions"), expected)
            self.assertEqual(function["Properties"].get("Tracing", TEMPLATE["Globals"]["Function"]["Tracing"]), {"Ref": "Tracing"})

    def test_only_the_registrar_writes_connections_and_reads_the_admin_key(self):
        for function in ["Receiver", "Processor"]:
            for statement in statements(function):
                resource = str(statement["Resource"])
                self.assertNotIn("AdminKey", resource)
                if "Connections" in resource:
                    self.assertEqual((function, statement["Action"]), ("Processor", "dynamodb:BatchGetItem"))
                if function == "Receiver" and "dynamodb" in str(statement["Action"]):
                    tables = {"dynamodb:Scan": "ProofKeys", "dynamodb:GetItem": "Senders"}
                    self.assertEqual(resource, str({"Fn::GetAtt": [tables[statement["Action"]], "Arn"]}))
                if function == "Processor":
                    self.assertNotIn("ProofKeys", resource)
                    self.assertNotIn("Senders", resource)
                    self.assertNotIn("AppCredentials", resource)

    def test_connections_can_be_listed_in_parts(self):
        [index] = RESOURCES["Connections"]["Properties"]["GlobalSecondaryIndexes"]
        self.assertEqual(index["IndexName"], "listing")
        self.assertEqual([key["AttributeName"] for key in index["KeySchema"]], ["shard", "listed"])
        # The index has nothing of a connection's credentials or settings.
        self.assertEqual(set(index["Projection"]["NonKeyAttributes"]), {"status", "site", "signed_with"})

    def test_the_schedule_may_call_the_registrar_and_nothing_else(self):
        [policy] = RESOURCES["SweepRole"]["Properties"]["Policies"]
        [statement] = policy["PolicyDocument"]["Statement"]
        self.assertEqual(statement["Action"], "lambda:InvokeFunction")
        self.assertEqual(statement["Resource"], {"Fn::GetAtt": ["Registrar", "Arn"]})
        self.assertEqual(RESOURCES["SweepSchedule"]["Properties"]["Target"]["Input"], '{"schedule":"sweep"}')
        self.assertEqual(RESOURCES["VerifySchedule"]["Condition"], "VerifiesNightly")

    def test_the_registrar_s_queue_waits_for_six_of_its_timeouts(self):
        timeout = RESOURCES["Registrar"]["Properties"]["Timeout"]
        self.assertGreaterEqual(RESOURCES["Jobs"]["Properties"]["VisibilityTimeout"], 6 * timeout)

    def test_the_last_attempt_of_a_job_is_the_queue_s(self):
        [attempts] = re.findall(r"MAX_ATTEMPTS: u32 = (\d+);", (ROOT / "functions/registrar/src/jobs.rs").read_text())
        self.assertEqual(RESOURCES["Jobs"]["Properties"]["RedrivePolicy"]["maxReceiveCount"], int(attempts))

    def test_a_generated_key_cannot_be_taken_for_a_ring(self):
        for name, secret in of_type("AWS::SecretsManager::Secret").items():
            if name == "AppCredentials":
                self.assertEqual(secret["Properties"]["SecretString"], "{}")
                continue
            self.assertNotIn("SecretString", secret["Properties"], name)

    def test_no_deployment_replaces_a_key(self):
        """CloudFormation makes another value after any edit of `GenerateSecretString`, even if the former one would do.
        Every stack would lose its signing key at its next deployment, and refuse all deliveries until the webhooks have
        moved to the new one."""
        written = '      GenerateSecretString: { PasswordLength: 64, ExcludePunctuation: true, ExcludeCharacters: "{" }\n'
        text = TEXT
        self.assertEqual(text.count("GenerateSecretString"), 2)
        for name in ["SigningKeys", "AdminKey"]:
            block = text.split(f"\n  {name}:\n")[1].split("\n\n")[0] + "\n"
            self.assertTrue(block.endswith(written), f"{name}: {block}")

    def test_functions_log_json_with_metrics(self):
        for name, function in of_type("AWS::Serverless::Function").items():
            logging = function["Properties"]["LoggingConfig"]
            levels = (logging["LogFormat"], logging["ApplicationLogLevel"], logging["SystemLogLevel"])
            self.assertEqual(levels, ("JSON", "INFO", "WARN"), name)

    def test_failures_are_reported_for_each_message(self):
        mapping = RESOURCES["ProcessorEvents"]["Properties"]
        self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])

    def test_deliveries_keep_the_order_of_a_subject_and_are_tried_for_three_days(self):
        deliveries = RESOURCES["Deliveries"]["Properties"]
        self.assertTrue(deliveries["FifoQueue"])
        self.assertEqual((deliveries["DeduplicationScope"], deliveries["FifoThroughputLimit"]), ("messageGroup", "perMessageGroupId"))
        # The sender puts aside what is older than three days, before the queue forgets it.
        self.assertGreater(deliveries["MessageRetentionPeriod"], 3 * 24 * 60 * 60)
        # What crashes each time is put aside before the queue forgets it, and what waits for an endpoint is not.
        received = deliveries["RedrivePolicy"]["maxReceiveCount"]
        self.assertLess(received * deliveries["VisibilityTimeout"], deliveries["MessageRetentionPeriod"])
        self.assertGreater(received, 3 * 24 * 60 * 60 / 900)
        timeout = RESOURCES["Sender"]["Properties"]["Timeout"]
        for queue in ["Deliveries", "Outgoing"]:
            self.assertGreaterEqual(RESOURCES[queue]["Properties"]["VisibilityTimeout"], 6 * timeout)
        # Each delivery takes ten seconds at most.
        self.assertLess(RESOURCES["DeliveryEvents"]["Properties"]["BatchSize"] * 10, timeout)
        for mapping in ["OutgoingEvents", "DeliveryEvents"]:
            self.assertEqual(RESOURCES[mapping]["Properties"]["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        self.assertIsNone(refusal(WebhooksOut="true", ChangeEvents="full"))
        self.assertIn("WebhooksOut needs ChangeEvents", refusal(WebhooksOut="true"))

    def test_readers_are_told_only_where_they_are_to_be(self):
        self.assertEqual(default("ChangeEvents"), "none")
        told = {name for name, resource in RESOURCES.items() if resource.get("Condition") == "TellsOfChanges"}
        named = {name for name in RESOURCES if name.startswith("Publisher") or name.startswith("Untold") or name == "Changes"}
        self.assertEqual(told, named)
        sent = {name for name, resource in RESOURCES.items() if resource.get("Condition") == "SendsWebhooks"}
        prefixes = ("Sender", "Outgoing", "Unsent", "Deliver", "Undelivered", "EndpointsFailing")
        # The table of declared senders is the receiver's.
        self.assertEqual(sent, {name for name in RESOURCES if name.startswith(prefixes)} - {"Senders"})
        self.assertEqual(default("WebhooksOut"), "false")
        mapping = RESOURCES["PublisherEvents"]["Properties"]
        self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        self.assertTrue(mapping["BisectBatchOnFunctionError"])
        # The stream keeps a day. What was written while the mapping came up is in it.
        self.assertEqual((mapping["StartingPosition"], mapping["MaximumRecordAgeInSeconds"]), ("TRIM_HORIZON", 82800))
        self.assertEqual(mapping["DestinationConfig"], {"OnFailure": {"Destination": {"Fn::GetAtt": ["Untold", "Arn"]}}})
        # It is the filter that docs/state.md gives to whoever follows the stream.
        [pattern] = [one["Pattern"] for one in mapping["FilterCriteria"]["Filters"]]
        self.assertIn(pattern.replace(" ", ""), (ROOT / "docs/state.md").read_text().replace(" ", ""))

    def test_alarms_go_to_the_topic(self):
        alarms = of_type("AWS::CloudWatch::Alarm")
        watched = {
            (str(alarm["Properties"]["Namespace"]), alarm["Properties"]["MetricName"]) for alarm in alarms.values()
        }
        expected = {
            "AWS/SQS": {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "ApproximateAgeOfOldestMessage"},
            "AWS/Lambda": {"Errors", "Throttles", "Url5xxCount", "IteratorAge"},
            "AWS/ApiGateway": {"5xx"},
            "AWS/Scheduler": {"TargetErrorCount"},
            str(OWN): {"SubscriptionsSwitchedOff", "FetchesStopped", "FailedJobs", "Refused", "Sweeps", "Installed",
                       "ReceiverOutOfMemory", "ProcessorOutOfMemory", "RegistrarOutOfMemory",
                       "PublisherOutOfMemory", "SenderOutOfMemory", "EndpointsFailing"},
        }
        self.assertEqual(watched, {(namespace, name) for namespace, names in expected.items() for name in names})
        for name, alarm in alarms.items():
            self.assertEqual(alarm["Properties"]["AlarmActions"], [{"Ref": "Alarms"}], name)

    def test_each_function_is_watched_at_the_front_door(self):
        alarms = [alarm["Properties"] for alarm in of_type("AWS::CloudWatch::Alarm").values()]
        for function in of_type("AWS::Serverless::Function"):
            by_name = [{"Name": "FunctionName", "Value": {"Ref": function}}]
            watched = {alarm["MetricName"] for alarm in alarms if alarm.get("Dimensions") == by_name}
            self.assertEqual(watched - {"Url5xxCount", "IteratorAge"}, {"Errors", "Throttles"}, function)
            self.assertIn(f"{function}OutOfMemory", {alarm["MetricName"] for alarm in alarms})

    def test_each_alarm_has_a_section_in_the_operations_page(self):
        sections = set(re.findall(r"^### (\w+Alarm)$", OPERATIONS, re.MULTILINE))
        self.assertEqual(sections, set(of_type("AWS::CloudWatch::Alarm")))

    def test_our_own_metrics_are_watched_as_they_are_emitted(self):
        for name, alarm in of_type("AWS::CloudWatch::Alarm").items():
            properties = alarm["Properties"]
            if properties["Namespace"] == OWN:
                self.assertNotIn("Dimensions", properties, name)
                self.assertIn(frozenset(), emitted().get(properties["MetricName"], set()), name)

    def test_the_dashboard_shows_what_there_is(self):
        """Every metric of ours is emitted with the very dimensions, and every other one is AWS's own, of a resource that each
        stack has."""
        known = {
            "AWS/Lambda": ("FunctionName", {"Invocations", "Duration"}),
            "AWS/SQS": ("QueueName", {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible", "NumberOfMessagesSent",
                                      "NumberOfEmptyReceives"}),
            "AWS/DynamoDB": ("TableName", {"ConsumedWriteCapacityUnits", "ConsumedReadCapacityUnits"}),
            "AWS/Logs": ("LogGroupName", {"IncomingBytes"}),
        }
        kinds = {"FunctionName": "AWS::Serverless::Function", "QueueName": "AWS::SQS::Queue", "TableName": "AWS::DynamoDB::Table",
                 "LogGroupName": "AWS::Logs::LogGroup"}
        ours, metrics = set(), emitted()
        for namespace, name, dimensions in shown():
            if namespace == "CommerceHooks/AWS::StackName":
                self.assertIn(frozenset(dimensions), metrics.get(name, set()), f"{name} is not emitted by {sorted(dimensions)}")
                ours.add(name)
                continue
            dimension, names = known[namespace]
            self.assertEqual(list(dimensions), [dimension], name)
            self.assertIn(name, names)
            resource = RESOURCES[dimensions[dimension].removesuffix(".QueueName")]
            self.assertEqual((resource["Type"], "Condition" in resource), (kinds[dimension], False), dimensions)
        expected = {"Messages", "Refused", "Differences", "DriftPerMillion", "SubscriptionsSwitchedOff", "FetchesStopped",
                    "ReceiptToState", "ReceiptToEvent"}
        self.assertEqual(ours, expected)

    def test_the_dashboard_s_expressions_name_what_is_beside_them(self):
        places = set()
        for widget in dashboard()[1]:
            place = (widget["x"], widget["y"], widget["width"], widget["height"])
            for x in range(place[0], place[0] + place[2]):
                for y in range(place[1], place[1] + place[3]):
                    self.assertNotIn((x, y), places, f"{widget['properties']['title']} lies on another widget")
                    places.add((x, y))
            options = [metric[-1] for metric in widget["properties"].get("metrics", []) if isinstance(metric[-1], dict)]
            ids = [option["id"] for option in options if "id" in option]
            self.assertEqual(len(ids), len(set(ids)), ids)
            for option in options:
                expression = option.get("expression", "")
                if "SEARCH(" not in expression:
                    named = set(re.findall(r"\b[a-z]+\b", expression))
                    self.assertLessEqual(named, set(ids), expression)
                    self.assertNotIn(option.get("id"), named)
            used = set(re.findall(r"\b[a-z]+\b", " ".join(option.get("expression", "") for option in options if "SEARCH(" not in option.get("expression", ""))))
            hidden = {option["id"] for option in options if option.get("visible") is False}
            self.assertLessEqual(hidden, used, "what is hidden serves an expression")

    def test_the_dashboard_s_events_are_logged(self):
        sources = "\n".join(path.read_text() for path in (ROOT / "functions").rglob("*.rs"))
        for event in re.findall(r"filter event = '([\w-]+)'", dashboard()[0]):
            self.assertIn(f'"{event}"', sources)

    def test_no_sweep_rings_and_so_does_silence(self):
        alarm = RESOURCES["NoSweepAlarm"]["Properties"]
        self.assertEqual((alarm["TreatMissingData"], alarm["ComparisonOperator"], alarm["Threshold"]), ("breaching", "LessThanThreshold", 1))
        self.assertEqual((alarm["Period"], default("SweepAlarmHours")), (3600, 3))

    def test_memory_kills_are_found_in_the_log(self):
        # Lambda writes these lines, in its JSON format, for an environment that used too much memory.
        killed = [
            '{"time":"2026-01-01T00:00:00.000Z","type":"platform.report","record":{"requestId":"1","status":"error",'
            '"errorType":"Runtime.OutOfMemory","metrics":{"durationMs":9.5,"memorySizeMB":256,"maxMemoryUsedMB":256}}}',
            '{"time":"2026-01-01T00:00:00.000Z","type":"platform.runtimeDone","record":{"requestId":"1","status":"error",'
            '"errorType":"Runtime.ExitError: signal: killed"}}',
        ]
        fine = '{"type":"platform.report","record":{"requestId":"1","status":"success","metrics":{"maxMemoryUsedMB":60}}}'
        for name, metric_filter in of_type("AWS::Logs::MetricFilter").items():
            terms = re.findall(r'\?"([^"]+)"', metric_filter["Properties"]["FilterPattern"])
            self.assertTrue(terms, name)
            found = [any(term in line for term in terms) for line in [*killed, fine]]
            self.assertEqual(found, [True, True, False], name)

    def test_what_anybody_may_ask_is_throttled_and_hooks_are_not(self):
        routes = {route["Properties"]["RouteKey"] for route in of_type("AWS::ApiGatewayV2::Route").values()}
        throttled = set(RESOURCES["ApiStage"]["Properties"]["RouteSettings"])
        self.assertEqual(throttled, {route for route in routes if "/hooks/" not in route})

    def test_credentials_are_opened_for_their_purpose_only(self):
        purpose, platform = "kms:EncryptionContext:purpose", "kms:EncryptionContext:platform"
        for function, condition in {
            "Processor": {"StringEquals": {purpose: "credentials"}, "StringNotEquals": {platform: "endpoint"}},
            "Registrar": {"StringEquals": {purpose: "credentials"}},
            "Sender": {"StringEquals": {purpose: "credentials", platform: "endpoint"}},
        }.items():
            opening = [one for one in statements(function) if "kms:Decrypt" in str(one["Action"])]
            self.assertEqual([one["Condition"] for one in opening], [condition], function)

    def test_it_names_no_platform(self):
        folders = (ROOT / "shared/commerce/src/platforms").iterdir()
        for platform in [folder.name for folder in folders if folder.is_dir()]:
            # A custom domain is no platform.
            self.assertNotIn(platform, TEXT.lower().replace("custom domain", ""))


if __name__ == "__main__":
    unittest.main()
