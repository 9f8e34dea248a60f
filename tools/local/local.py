"""The local AWS. Sets it up in .local/, builds, starts it, deploys the real template.yaml, and plays the events.

    local.py run          does everything from the start, and leaves the stack and the simulated platforms up
    local.py up           does everything but the platforms
    local.py send EVENT   sends one of the events to the running stack, and prints its outcome
    local.py state PLATFORM CONNECTION KIND   prints the entities of a store
    local.py stop         ends what the others started, and nothing else
    local.py tools        builds the commands behind make
    local.py env STACK    prints the environment of a stack on AWS, for the commands behind make

`--name` keeps a second stack apart from the first: the tests have their own.

This file runs twice: once with the machine's Python, to make a virtual environment with pinned versions, and then in it.
"""

import argparse
import json
import os
import pathlib
import platform
import secrets
import shlex
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from typing import NamedTuple

from common import LOCAL, ROOT, VENV, Step, digest, enter_venv, fail, free_port, is_zombie, quiet, say, wait_for

STACK = "commerce-hooks"
REGION = "us-east-1"
SAMPLE_KEY_ID = "sample"
SAMPLE_KEY = "commerce-hooks-sample-key--public--never-deploy-it"
FIRST_PORT = 4566
# Writes that a reader can see, in the emulator's words; see `mend_event_source_mappings`.
SEEN_BY_READERS = [
    {"Pattern": json.dumps({"dynamodb": {"NewImage": {"unchanged": [{"exists": False}]}}})},
    {"Pattern": json.dumps({"eventName": ["REMOVE"]})},
]
# A role that allows one of these for one message allows it for a batch.
BATCHED = {"sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}
SAM_CONFIG = ["--config-file", ROOT / "samconfig.toml", "--config-env", "local"]

# A local build is linked quickly; a build for AWS is linked for size (Cargo.toml, profile.release).
QUICK_BUILD = {
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
    "CARGO_PROFILE_RELEASE_STRIP": "debuginfo",
    "CARGO_LAMBDA_COMPILER": "cargo",
}


# The processes that stay up, by what their command lines contain.
PROCESSES = {"ministack": str(VENV / "bin/ministack"), "platforms": str(LOCAL / "platforms")}


class Binaries(NamedTuple):
    """Binaries of this workspace that are built together."""

    what: str
    packages: list
    binaries: list
    folders: list


FUNCTIONS = ["receiver", "processor", "publisher", "sender", "registrar"]
BINARIES = {
    "functions": Binaries("functions", FUNCTIONS, FUNCTIONS, ["functions", "shared"]),
    "tools": Binaries("commands behind make", ["tools"], ["tools"], ["functions", "shared", "tools"]),
    "platforms": Binaries("simulated platforms", ["tests"], ["platforms"], ["functions", "shared", "tools", "tests"]),
}


def sources(*folders):
    """Returns the files from which the binaries of these folders are built."""
    yield from (ROOT / name for name in ["Cargo.toml", "Cargo.lock", "template.yaml", "functions/url.yaml", "samconfig.toml", ".cargo/config.toml"])
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {".rs", ".toml", ".json"}:
                yield path


def built(name):
    """Returns the version of the sources that something was last built from."""
    stamp = LOCAL / f"built-{name}"
    return stamp.read_text() if stamp.exists() else None


def architecture():
    return "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


def for_this_machine(template):
    """Returns the template for this machine's architecture: a local run changes only that one word."""
    return template.replace("Architectures: [arm64]", f"Architectures: [{architecture()}]")


class Stack:
    """One local AWS with the bundle deployed on it."""

    def __init__(self, name):
        self.name = name
        self.dir = LOCAL if name == "run" else LOCAL / name
        self.dir.mkdir(parents=True, exist_ok=True)
        self.state_file = self.dir / "state.json"
        self.state = json.loads(self.state_file.read_text()) if self.state_file.exists() else {}
        # The emulator's process had another name in the file before there were others.
        if "pid" in self.state:
            self.state["ministack"] = self.state.pop("pid")

    def save(self, **values):
        self.state.update(values)
        self.state_file.write_text(json.dumps(self.state, indent=1))

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.state.get('port', FIRST_PORT)}"

    def environment(self):
        mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return mine | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_CHECK_UPDATES": "0",
            "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
        } | QUICK_BUILD

    def client(self, service):
        import boto3

        return boto3.client(
            service, endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
        )

    # starting and stopping

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def process(self, name):
        """Returns the pid of the emulator or the simulated platforms, by name, if we started it and it still runs."""
        pid = self.state.get(name)
        if pid is None:
            return None
        try:
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            try:
                shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
                command = shown.stdout
            except OSError:
                command = ""
        return pid if PROCESSES[name] in command else None

    def spawn(self, name, command, env, **pipes):
        """Starts a process that stays up after this command, until `stop`."""
        log = (self.dir / f"{name}.log").open("wb")
        pipes = {"stdin": subprocess.DEVNULL, "stdout": log, **pipes}
        started = subprocess.Popen(command, stderr=log, env=env, cwd=self.dir, start_new_session=True, **pipes)
        self.save(**{name: started.pid})
        return started

    def start(self):
        if self.process("ministack") and self.answers():
            return False
        self.stop()
        port = free_port(FIRST_PORT if self.name == "run" else FIRST_PORT + 100)
        if self.name == "run" and port != FIRST_PORT:
            say(f"  port {FIRST_PORT} is taken; the local AWS takes {port}")
        self.save(port=port, deployed=None)
        environment = self.environment() | {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            # Each function may do what its role in the template allows, and nothing else.
            "AUTH": "true",
            # No bytecode is written into the virtual environment.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with Step("starting the local AWS"):
            self.spawn("ministack", [VENV / "bin/ministack"], environment)
            wait_for(self.answers, 60, f"the local AWS does not answer; see {self.dir / 'ministack.log'}")
        return True

    def stop(self):
        """Ends the simulated platforms and the local AWS."""
        return any([self.end(name) for name in ["platforms", "ministack"]])

    def end(self, name):
        pid = self.process(name)
        if pid is None:
            return False
        # The process leads its own session, so the functions that it runs end with it.
        os.killpg(pid, signal.SIGTERM)
        try:
            wait_for(lambda: self.process(name) is None or is_zombie(pid), 10, "")
        except SystemExit:
            os.killpg(pid, signal.SIGKILL)
        self.save(**{name: None}, **({"deployed": None} if name == "ministack" else {}))
        return True

    # building and deploying

    def build(self, binaries):
        """Builds the functions and other binaries of this workspace with the same compiler flags, so that each crate is
        compiled once. Returns the version of the functions."""
        self.build_binaries(["functions", *binaries])
        template = LOCAL / "template.yaml"
        template.write_text(for_this_machine((ROOT / "template.yaml").read_text()))
        # SAM looks for nested templates beside the one that it builds.
        (LOCAL / "functions").mkdir(exist_ok=True)
        shutil.copy(ROOT / "functions/url.yaml", LOCAL / "functions/url.yaml")
        version = digest(sources("functions", "shared"))
        if built("sam") != version:
            log = LOCAL / "logs/sam.log"
            command = ["sam", "build", *SAM_CONFIG, "--build-dir", LOCAL / "build", "--template-file", template, "--base-dir", ROOT]
            with Step("building the template (sam build)", log):
                quiet(command, log, cwd=ROOT, env=self.environment())
            (LOCAL / "built-sam").write_text(version)
        return version

    def build_binaries(self, names):
        """Builds binaries as `sam build` builds the functions, if their sources have changed since. Those for this machine go
        into .local."""
        wanted = {name: digest(sources(*BINARIES[name].folders)) for name in names}
        if all(built(name) == wanted[name] for name in names):
            return
        packages = dict.fromkeys(package for name in names for package in BINARIES[name].packages)
        binaries = [binary for name in names for binary in BINARIES[name].binaries]
        flag = {"x86_64": "--x86-64", "arm64": "--arm64"}[architecture()]
        command = [VENV / "bin/cargo-lambda", "lambda", "build", "--release", "--locked", flag]
        command += [word for package in packages for word in ("--package", package)]
        command += [word for binary in binaries for word in ("--bin", binary)]
        what = f"building the {' and the '.join(BINARIES[name].what for name in names)} (minutes the first time)"
        log = LOCAL / f"logs/{'-'.join(names)}.log"
        with Step(what, log):
            quiet(command, log, cwd=ROOT, env=self.environment())
            target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
            for name in set(names) - {"functions"}:
                copy = LOCAL / f"{name}.new"
                copy.write_bytes((target / "lambda" / name / "bootstrap").read_bytes())
                copy.chmod(0o755)
                copy.replace(LOCAL / name)
        for name, version in wanted.items():
            (LOCAL / f"built-{name}").write_text(version)

    def deploy(self, version):
        if self.state.get("deployed") == version:
            return
        with Step("deploying template.yaml (sam deploy)"):
            self.sam_deploy()
            # Only now is the local API's address known.
            api = self.outputs()["ApiId"]
            self.save(api_url=f"{self.endpoint}/_aws/execute-api/{api}/$default")
            self.update(AllowLoopbackPlatforms="true", LocalBaseUrl=self.state["api_url"])
        self.mend_event_source_mappings()
        self.mend_policies()
        self.mend_generated_keys()
        self.accept_sample_key()
        self.let_sample_stores_in()
        self.write_env()
        self.save(deployed=version)

    def update(self, **changed):
        """Updates the stack with other values of some parameters."""
        client = self.client("cloudformation")
        described = lambda: client.describe_stacks(StackName=STACK)["Stacks"][0]
        given = {one["ParameterKey"]: one["ParameterValue"] for one in described()["Parameters"]} | changed
        client.update_stack(
            StackName=STACK,
            UsePreviousTemplate=True,
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        wait_for(lambda: not described()["StackStatus"].endswith("IN_PROGRESS"), 120, "the stack's update does not end")
        if described()["StackStatus"] != "UPDATE_COMPLETE":
            fail(f"updating the stack failed: {described().get('StackStatusReason')}; see {self.dir / 'ministack.log'}")

    def sam_deploy(self):
        overrides = ["LogRetention=1", "ChangeEvents=full", "WebhooksOut=true", 'SweepRate="rate(1 minute)"']
        command = ["sam", "deploy", *SAM_CONFIG, "--template-file", LOCAL / "build/template.yaml"]
        command += ["--stack-name", STACK, "--parameter-overrides", *overrides]
        quiet(command, self.dir / "deploy.log", cwd=ROOT, env=self.environment())

    def outputs(self):
        return stack_outputs(self.client("cloudformation"), STACK)

    def deploy_example(self, name, stack_name, **parameters):
        """Deploys a template of `examples/` beside the stack, and returns its outputs."""
        with Step(f"deploying examples/{name}.yaml ({stack_name})"):
            client = self.client("cloudformation")
            client.create_stack(
                StackName=stack_name,
                TemplateBody=(ROOT / f"examples/{name}.yaml").read_text(),
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Capabilities=["CAPABILITY_IAM"],
            )
            client.get_waiter("stack_create_complete").wait(StackName=stack_name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        return stack_outputs(client, stack_name)

    def mend_event_source_mappings(self):
        """Sets the mappings' numbers by the API. The emulator keeps parameters as texts, and then polls no more. For it, an
        attribute that is absent has no absent type below it, as it has on AWS, so it gets filters that say the same in
        other words."""
        functions = self.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            numbers = {name: int(mapping.get(name) or 0) for name in ["BatchSize", "MaximumBatchingWindowInSeconds"]}
            scaling = {name: int(value) for name, value in mapping.get("ScalingConfig", {}).items()}
            filters = {"FilterCriteria": {"Filters": SEEN_BY_READERS}} if "FilterCriteria" in mapping else {}
            functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig=scaling, **numbers, **filters)

    def mend_policies(self):
        """Adapts the roles to the emulator, which differs from AWS. Its `Ref` of a secret is the name, not the ARN that
        a policy has to name. It has separate actions for batches of messages, where AWS uses those for one message. It
        does not know the context of an encryption, so no condition on that is ever met (`tests/release` checks the
        context instead)."""
        iam, secrets_manager = self.client("iam"), self.client("secretsmanager")
        arns = {secret["Name"]: secret["ARN"] for secret in secrets_manager.list_secrets()["SecretList"]}
        listed = lambda value: value if isinstance(value, list) else [value]
        for role in iam.list_roles()["Roles"]:
            for policy in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
                where = {"RoleName": role["RoleName"], "PolicyName": policy}
                document = iam.get_role_policy(**where)["PolicyDocument"]
                for statement in document["Statement"]:
                    actions = listed(statement["Action"])
                    batches = [f"{action}Batch" for action in actions if action in BATCHED]
                    statement["Action"] = [*actions, *batches]
                    statement["Resource"] = [arns.get(resource, resource) for resource in listed(statement["Resource"])]
                    if "kms:EncryptionContext:purpose" in statement.get("Condition", {}).get("StringEquals", {}):
                        del statement["Condition"]
                iam.put_role_policy(**where, PolicyDocument=json.dumps(document))

    def mend_generated_keys(self):
        """Replaces generated keys with punctuation, which the template excludes but the emulator uses anyway."""
        client, outputs = self.client("secretsmanager"), self.outputs()
        for arn in [outputs["SigningKeysArn"], outputs["AdminKeyArn"]]:
            text = client.get_secret_value(SecretId=arn)["SecretString"]
            if not text.startswith("{") and not text.isalnum():
                client.put_secret_value(SecretId=arn, SecretString=secrets.token_hex(32))

    def accept_sample_key(self):
        """Adds the public sample key to the signing keys, to verify only, so that events/ can be sent as they are."""
        client, arn = self.client("secretsmanager"), self.outputs()["SigningKeysArn"]
        text = client.get_secret_value(SecretId=arn)["SecretString"]
        if not text.startswith("{"):
            keys = [
                {"id": "initial", "state": "sign", "secret": text},
                {"id": SAMPLE_KEY_ID, "state": "verify", "secret": SAMPLE_KEY},
            ]
            client.put_secret_value(SecretId=arn, SecretString=json.dumps({"keys": keys}))

    def let_sample_stores_in(self):
        """Sets a public key for links that begin an installation. Without a key, nobody may install the app."""
        apps = {"woocommerce": {"install_key": "commerce-hooks-sample-install-key"}}
        self.client("secretsmanager").put_secret_value(SecretId=self.outputs()["AppCredentialsArn"], SecretString=json.dumps(apps))

    def write_logs(self):
        """Writes what the functions have logged into a file, and returns its path."""
        client, path = self.client("logs"), self.dir / "functions.log"
        with path.open("w") as kept:
            for group in client.describe_log_groups()["logGroups"]:
                for page in client.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                    kept.writelines(event["message"].rstrip("\n") + "\n" for event in page["events"])
        return path

    def write_env(self):
        values = environment_of(self.outputs(), self.state["api_url"]) | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "ALLOW_LOOPBACK_PLATFORMS": "true",
        }
        (self.dir / "env").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))

    def up(self, binaries=("tools",)):
        version = self.build(binaries)
        self.start()
        self.deploy(version)


def environment_of(outputs, api_url):
    """Returns the environment of the functions and of the commands behind make, from a stack's outputs."""
    return {
        "API_URL": api_url,
        "PUBLIC_BASE_URL": api_url,
        "ENTITIES_TABLE": outputs["EntitiesTable"],
        "CONNECTIONS_TABLE": outputs["ConnectionsTable"],
        "INBOX_URL": outputs["InboxUrl"],
        "DLQ_URL": outputs["DeadLettersUrl"],
        "SIGNING_KEYS": outputs["SigningKeysArn"],
        "ADMIN_KEY": outputs["AdminKeyArn"],
        "APP_CREDENTIALS": outputs["AppCredentialsArn"],
        "JOBS_URL": outputs["JobsUrl"],
        "FAILED_JOBS_URL": outputs["FailedJobsUrl"],
        "REGISTRAR": outputs["RegistrarName"],
        "COORDINATION_TABLE": outputs["CoordinationTable"],
        "PROOF_KEYS_TABLE": outputs["ProofKeysTable"],
        "SENDERS_TABLE": outputs["SendersTable"],
        "CREDENTIALS_KEY": outputs["CredentialsKeyArn"],
        "PROCESSOR_LOGS": outputs["ProcessorLogGroup"],
        "CHANGES_BUS": outputs.get("ChangesBus", ""),
        "OUTGOING_URL": outputs.get("OutgoingUrl", ""),
        "UNSENT_URL": outputs.get("UnsentUrl", ""),
        "DELIVERIES_URL": outputs.get("DeliveriesUrl", ""),
        "UNDELIVERED_URL": outputs.get("UndeliveredUrl", ""),
        "CHANGE_EVENTS": "full" if "ChangesBus" in outputs else "none",
    }


def stack_outputs(client, stack):
    described = client.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}


def print_environment(stack):
    import boto3

    session = boto3.Session()
    outputs = stack_outputs(session.client("cloudformation"), stack)
    # Without an HTTP API, each function has its own address.
    api = outputs.get("ApiUrl") or outputs["AdminUrl"].rstrip("/")
    values = environment_of(outputs, api) | {"AWS_REGION": session.region_name}
    if "ApiUrl" not in outputs:
        values["PUBLIC_BASE_URL"] = outputs["HooksUrl"].rstrip("/")
    credentials = session.get_credentials().get_frozen_credentials()
    values |= {"AWS_ACCESS_KEY_ID": credentials.access_key, "AWS_SECRET_ACCESS_KEY": credentials.secret_key}
    if credentials.token:
        values["AWS_SESSION_TOKEN"] = credentials.token
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "up", "stop", "env", "tools", "send", "state"])
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--name", default="run")
    options = parser.parse_args()
    if options.command == "stop" and not VENV.exists():
        return say("Nothing is running.")
    enter_venv()
    stack = Stack(options.name)
    if options.command == "env":
        print_environment(*options.arguments or [STACK])
    elif options.command == "stop":
        say("Stopped." if stack.stop() else "Nothing is running.")
    elif options.command == "tools":
        stack.build_binaries(["tools"])
    elif options.command == "up":
        stack.up()
    else:
        import play

        commands = {"run": play.run, "send": play.send_one, "state": play.state}
        commands[options.command](stack, *options.arguments)


if __name__ == "__main__":
    main()
