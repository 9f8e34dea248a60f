"""Tests of the scan for secrets: it finds what it has to, and does not repeat it."""

import base64
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools/local"))

import leaks  # noqa: E402

SECRET = "a/secret+that only the tests have"


class LeaksTest(unittest.TestCase):
    def found(self, text, secrets={"ours": SECRET}):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "output.log"
            path.write_text(f"a line\n{text}\n")
            return leaks.scan([path], secrets)

    def test_a_secret_is_found_in_each_spelling_and_never_repeated(self):
        encoded = base64.b64encode(SECRET.encode()).decode()
        for text in [SECRET, f"x={SECRET};", f'{{"key":"{SECRET}"}}', encoded, encoded.rstrip("="), SECRET.encode().hex()]:
            found = self.found(text)
            self.assertEqual(found, ["output.log, line 2: ours"], text)
        self.assertEqual(self.found("nothing of it"), [])

    def test_what_has_the_form_of_a_secret_is_found(self):
        token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.nfIW6Fc85zjnTS7hQKy4q-7TmiixiIbxaWyAlkWGcXo"
        for text in [
            token,
            f"authorization: Bearer {token[:40]}",
            "Bearer 0123456789abcdef0123456789abcdef",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "-----BEGIN RSA PRIVATE KEY-----",
            f"cs_{'0a' * 20}",
        ]:
            self.assertTrue(self.found(text, {}), text)
        for text in ["Bearer …", "a bearer key", "whsec_", "eyJ.eyJ.", "BEGIN PUBLIC KEY", "cs_1"]:
            self.assertEqual(self.found(text, {}), [], text)

    def test_the_samples_have_secrets(self):
        samples = leaks.of_samples()
        self.assertGreater(len(samples), 20)
        self.assertTrue(all(len(text) >= leaks.SHORTEST for text in samples.values()))

    def test_secrets_are_found_by_the_names_of_their_members(self):
        value = {"keys": [{"id": "a-name-of-a-key-0001", "state": "verify", "secret": SECRET}], "client_secret": SECRET}
        self.assertEqual(leaks.texts(value), [SECRET, SECRET])

    def test_the_known_secrets_are_those_of_the_code(self):
        code = (ROOT / "tools/src/events.rs").read_text() + (ROOT / "tools/local/local.py").read_text()
        self.assertEqual([name for name, secret in leaks.KNOWN.items() if secret not in code], [])


if __name__ == "__main__":
    unittest.main()
