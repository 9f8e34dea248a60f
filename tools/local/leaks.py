"""The scan of a test run's output for secrets: what the run printed, and the logs of the local AWS with all that the
deployed functions logged. Every secret that the run used is looked for, as it is and in base64, and every text that has
the form of one. What is found is told by its name and place, never as it is."""

import base64
import json
import re

from common import ROOT, say

# Secrets that tests have in their code or data, by the name of the place that has them.
KNOWN = {
    "the sample key (tools/src/events.rs)": "commerce-hooks-sample-key--public--never-deploy-it",
    "the sample install key (tools/local/local.py)": "commerce-hooks-sample-install-key",
}
# What has the form of a secret, whoever made it.
FORMS = {
    "a token (JWT)": re.compile(rb"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{20,}"),
    "a bearer key": re.compile(rb"(?i)\bbearer [\w.~+/-]{24,}"),
    "a secret of Standard Webhooks": re.compile(rb"\bwhsec_[\w+/=]{24,}"),
    "a private key": re.compile(rb"BEGIN [A-Z ]*PRIVATE KEY"),
    "credentials of WooCommerce": re.compile(rb"\b(?:ck|cs)_[0-9a-f]{40}\b"),
}
# Members whose values are secrets, in the secrets of the stack and in the headers of samples.
SECRET_MEMBERS = re.compile(r"secret|(?<!public)_key$|token|signature|authorization|authentication|commerce-hooks-key", re.IGNORECASE)
SHORTEST = 16


def texts(value, name=""):
    """Returns the texts below members that hold secrets."""
    if isinstance(value, dict):
        return [text for member, inner in value.items() for text in texts(inner, member)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner, name)]
    return [value] if isinstance(value, str) and len(value) >= SHORTEST and SECRET_MEMBERS.search(name) else []


def of_samples():
    """Returns the tokens, signatures and keys of the requests in events/."""
    found = {}
    for path in sorted((ROOT / "events").glob("*/*.json")):
        headers = json.loads(path.read_text()).get("headers", {})
        for text in texts(headers):
            found[f"a proof in {path.relative_to(ROOT)}"] = text.removeprefix("Bearer ")
    return found


def of_stack(stack):
    """Returns the secrets of the deployed stack, as Secrets Manager has them."""
    client, found = stack.client("secretsmanager"), {}
    for secret in client.list_secrets()["SecretList"]:
        text = client.get_secret_value(SecretId=secret["ARN"])["SecretString"]
        name = f"the secret {secret['Name']}"
        if text.startswith("{"):
            for place, one in enumerate(texts(json.loads(text))):
                found[f"{name}, {place}"] = one
        elif len(text) >= SHORTEST:
            found[name] = text
    return found


def spelled(secret):
    """Returns the spellings in which a secret may be in a text."""
    plain = secret.encode()
    encoded = {base64.b64encode(plain).rstrip(b"="), base64.urlsafe_b64encode(plain).rstrip(b"=")}
    return {plain, json.dumps(secret)[1:-1].encode(), plain.hex().encode(), *encoded}


def scan(paths, secrets):
    """Returns what is found in these files, by its name and its line."""
    found = []
    spellings = {name: spelled(secret) for name, secret in secrets.items()}
    for path in paths:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            names = [name for name, ways in spellings.items() if any(way in line for way in ways)]
            names += [name for name, form in FORMS.items() if form.search(line)]
            found += [f"{path.name}, line {number}: {name}" for name in names]
    return found


def check(paths, secrets):
    """Returns what is wrong with the output of a run, and says what was looked through."""
    paths = [path for path in paths if path.exists()]
    lines = sum(path.read_bytes().count(b"\n") for path in paths)
    say(f"   {len(secrets)} secrets and {len(FORMS)} forms of them, in {lines} lines of {len(paths)} files")
    return scan(paths, secrets)
