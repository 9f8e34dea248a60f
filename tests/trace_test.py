"""`make trace` follows deliveries through the local bundle, by the ids that their sender was given."""

import json
import os
import pathlib
import subprocess
import sys
import time
import unittest
import uuid

from bundle import admin, deliver

ROOT = pathlib.Path(__file__).parent.parent
CONNECTION = "trace.example.com"
# The longest wait in seconds for what is under way.
PATIENCE = 60
ORDER = {
    "id": 41, "status": "processing", "currency": "EUR", "total": "12.00", "customer_id": 0, "line_items": [],
    "date_created_gmt": "2026-11-02T10:00:00", "date_modified_gmt": "2026-11-20T10:00:00",
}


def trace(*arguments, **environment):
    """Runs the command, and returns its status and what it says, the errors behind the rest."""
    command = [sys.executable, ROOT / "tools/local/trace.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    return done.returncode, done.stdout + done.stderr


class Trace(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        status, shown = admin("PUT", CONNECTION, "", {"site": f"https://{CONNECTION}"})
        assert status == 200, shown

    def until(self, found, *arguments):
        """Runs the command until it says all of this, and returns what it says."""
        started = time.monotonic()
        while True:
            _, said = trace(*arguments)
            if all(words in said for words in found):
                return said
            self.assertLess(time.monotonic() - started, PATIENCE, f"{found} in:\n{said}")
            time.sleep(0.5)

    def test_a_delivery_is_followed_to_its_event(self):
        answered = deliver(CONNECTION, "order.created", json.dumps(ORDER).encode(), "first")
        given, message = answered["x-trace-id"], answered["x-message-id"]
        found = [f"trace {given}", f"proven for woocommerce#{CONNECTION}, queued as message {message}",
                 f"order/41, message {message}: applied", "order.created", "this delivery was the last to write it"]
        said = self.until(found, given)
        steps = [line.split()[1] for line in said.splitlines() if line.startswith("  20")]
        self.assertEqual(steps[:2], ["receiver", "processor"], said)
        self.assertIn("publisher", steps)
        self.assertNotIn("next:", said)
        # The message's id leads to the same, and so does a longer look back.
        self.assertEqual(trace(message), trace(given))
        self.assertEqual(trace(given, "72"), trace(given))

        later = ORDER | {"status": "completed", "date_modified_gmt": "2026-11-20T11:00:00"}
        second = deliver(CONNECTION, "order.updated", json.dumps(later).encode(), "second")["x-trace-id"]
        self.until([f"trace {second}", "order.updated", "this delivery was the last"], second)
        self.assertIn(f"the last to write it was {second}", trace(given)[1])

    def test_what_was_put_aside_says_how_it_comes_back(self):
        given = deliver(CONNECTION, "order.updated", json.dumps(ORDER).encode()[:-3], "broken")["x-trace-id"]
        self.until(["quarantined: malformed", "make redrive REASON=malformed RUN=1"], given)

    def test_what_was_refused_is_found_too(self):
        given = deliver(CONNECTION, "order.updated", b"{}", "forged", expected=401, secret="another")["x-trace-id"]
        said = self.until([f"refused for woocommerce#{CONNECTION}", "next: It was not proven"], given)
        self.assertNotIn("queued", said)

    def test_errors_say_what_to_do(self):
        unknown = str(uuid.uuid4())
        for arguments, environment, words in [
            ([unknown], {}, f"look again, or further back: make trace ID={unknown} HOURS=72"),
            ([], {}, "make trace ID=…"),
            ([""], {}, "make trace ID=…"),
            (["a b"], {}, "'a b' is no id"),
            ([unknown, "x"], {}, "HOURS must be a whole number from 1 to 2160, not 'x'"),
            ([unknown, "0"], {}, "HOURS must be"),
            ([unknown], {"PROCESSOR_LOGS": ""}, "PROCESSOR_LOGS is missing: `make run` makes"),
            ([unknown], {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS cannot be asked"),
        ]:
            status, said = trace(*arguments, **environment)
            self.assertEqual(status, 1, said)
            self.assertIn(words, said)
            self.assertNotIn("Traceback", said)


if __name__ == "__main__":
    unittest.main()
