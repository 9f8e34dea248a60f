"""The command that runs every check and test, from quick to slow. `make test` calls it, and so does CI."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import threading
import time

import leaks
from common import LOCAL, ROOT, VENV, enter_venv, fail, say
from local import Stack

CARGO_DENY = "0.20.2"
# A snapshot that differs fails; no test run writes it.
QUIET = {"INSTA_UPDATE": "no", "CARGO_TERM_COLOR": "never"}
# All that the commands print, in which secrets are looked for at the end.
OUTPUT = LOCAL / "test/output.log"


def pass_on(pipe):
    """Prints what a command prints, and keeps it."""
    with OUTPUT.open("ab") as kept:
        while chunk := pipe.read1(65_536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            kept.write(chunk)
            kept.flush()


def run(what, command, **options):
    say(f"\n== {what}")
    started = time.monotonic()
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.Popen(command, cwd=ROOT, **pipes, **options)
    passing = threading.Thread(target=pass_on, args=[done.stdout], daemon=True)
    passing.start()
    done.wait()
    # A process that a command left behind may hold the pipe open; nobody waits for that one.
    passing.join(10)
    if done.returncode:
        fail(f"{what}: {shlex.join(map(str, command))} failed")
    say(f"   ({time.monotonic() - started:.0f} s)")


def cargo_deny():
    binary = LOCAL / "bin/cargo-deny"
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout if binary.exists() else ""
    if CARGO_DENY not in version:
        # Without its default features it needs no TLS library. The hosted workflow asks for the advisory database.
        install = ["cargo", "install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--no-default-features"]
        run("installing cargo-deny into .local (once)", [*install, "--root", LOCAL, "--quiet", "--force"])
    return binary


def environment(stack):
    values = os.environ | stack.environment()
    for line in (stack.dir / "env").read_text().splitlines():
        name, value = line.split("=", 1)
        values[name] = shlex.split(value)[0] if value else ""
    return values | {"ENV_FILE": str((stack.dir / "env").relative_to(ROOT))}


def connect():
    """Returns the environment of `tests/cloudblue`, whose modules find one another by it."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return os.environ | {"CONNECT": str(target / "debug/connect"), "PYTHONPATH": str(ROOT / "tests/cloudblue")}


def main():
    if not shutil.which("npm"):
        fail("npm is missing: install Node 20 or later, with which the consumer in TypeScript is built")
    enter_venv()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_bytes(b"")
    started = time.monotonic()
    quiet = {"env": os.environ | QUIET}
    run("formatting", ["cargo", "fmt", "--all", "--check"])
    run("pure tests", ["cargo", "test", "--locked", "-p", "commerce"], **quiet)
    fuzz = ["cargo", "test", "--locked", "-p", "commerce", "--test", "fuzz", "no_input", "--", "--nocapture"]
    run("fuzzing for seconds", fuzz, env=quiet["env"] | {"FUZZ_SECONDS": "2"})
    run("clippy", ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    rustdoc = {"env": os.environ | {"RUSTDOCFLAGS": "-D warnings -A rustdoc::private_intra_doc_links"}}
    run("the documentation of the code", ["cargo", "doc", "--locked", "--workspace", "--no-deps", "--quiet"], **rustdoc)
    run("bans, licences and sources", [cargo_deny(), "--locked", "check", "bans", "licenses", "sources"])
    run("tests in memory", ["cargo", "test", "--locked", "--workspace", "--exclude", "commerce"], **quiet)
    run("building the simulated Connect", ["cargo", "build", "--locked", "-p", "tests", "--bin", "connect"])
    run("CloudBlue Connect's own filters and client", [sys.executable, "-m", "unittest", "-v", "connect_test"], env=connect())
    stack = Stack("test")
    sam = stack.environment() | {"PYTHONPATH": str(ROOT)}
    run("sam validate --lint", [VENV / "bin/sam", "validate", "--lint"], env=sam)
    run("the manifests", [sys.executable, "tests/manifests_test.py"])
    run("the scan for secrets", [sys.executable, "tests/leaks_test.py"])
    run("the pages", [sys.executable, "tests/pages_test.py"])
    run("the template", [sys.executable, "-m", "unittest", "-v", "tests/template_test.py"], env=sam)
    say("\n== end to end")
    try:
        stack.stop()
        stack.up()
        release = os.environ | QUIET | {
            name.upper(): str(LOCAL / f"build/{name}/bootstrap") for name in ["Processor", "Publisher", "Receiver", "Registrar", "Sender"]
        }
        run("the release binaries", ["cargo", "test", "--locked", "-p", "tests", "--test", "release"], env=release)
        faults = ["cargo", "run", "--locked", "--quiet", "-p", "tests", "--bin", "faults", "--", "--short"]
        run("the release binaries in trouble", faults, env=release)
        run("building a function that does nothing", ["cargo", "build", "--locked", "-p", "tools", "--bin", "nothing"])
        nothing = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/nothing"
        bench = [LOCAL / "tools", "bench", "--short", "--starts", "2", "--requests", "10", "--output", LOCAL / "benchmarks.md"]
        run("a short benchmark", bench, env=release | {"NOTHING": str(nothing)})
        # One queue for the tests, and one for the consumers in examples/.
        queues = {
            name: stack.deploy_example("changes-to-a-queue", stack_name, ChangesBus=stack.outputs()["ChangesBus"])["QueueUrl"]
            for name, stack_name in [("CHANGES_QUEUE", "changes"), ("CONSUMER_QUEUE", "consumer")]
        }
        bus = stack.outputs()["ChangesBus"]
        targets = {
            "CHANGES_TOPIC": stack.deploy_example("changes-to-a-topic", "topic", ChangesBus=bus)["TopicArn"],
            "CHANGES_FUNCTION": stack.deploy_example("changes-to-a-function", "function", ChangesBus=bus)["FunctionName"],
        }
        # Builds what cargo lambda will run with the sample events; it would otherwise compile while a test waits.
        run("building for cargo lambda", ["cargo", "build", "--locked", "--bins", "-p", "receiver", "-p", "processor"])
        e2e = ["cargo", "test", "--locked", "-p", "tests", "--test", "e2e"]
        values = environment(stack) | QUIET | queues | targets | {"PYTHONPATH": str(ROOT / "tests")}
        run("tests against the deployed bundle", e2e, env=values)
        typescript = ROOT / "examples/typescript"
        run("the packages of the consumer in TypeScript", ["npm", "ci", "--no-audit", "--no-fund", "--prefix", typescript])
        run("the consumer in TypeScript", ["npm", "run", "--silent", "--prefix", typescript, "build"])
        run("the consumer in Rust", ["cargo", "build", "--locked", "-p", "consumer"])
        run("the consumers in examples/", [sys.executable, "-m", "unittest", "-v", "tests/consumers_test.py"], env=values)
        run("the other targets in examples/", [sys.executable, "-m", "unittest", "-v", "tests/targets_test.py"], env=values)
        run("a redaction", [sys.executable, "-m", "unittest", "-v", "tests/redaction_test.py"], env=values)
        run("following deliveries", [sys.executable, "-m", "unittest", "-v", "tests/trace_test.py"], env=values)
        run("the functions' roles", [sys.executable, "-m", "unittest", "-v", "tests/roles_test.py"], env=environment(stack))
        say("\n== secrets in the output")
        logs = [OUTPUT, *sorted(stack.dir.glob("*.log")), stack.write_logs()]
        if found := leaks.check(dict.fromkeys(logs), leaks.KNOWN | leaks.of_samples() | leaks.of_stack(stack)):
            fail("secrets are in the output:\n" + "\n".join(found))
    finally:
        stack.stop()
    say(f"\nAll is well, after {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
