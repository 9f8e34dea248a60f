"""Tests of the manifests: one set of features for all packages, because cargo compiles a crate once for each set and
the AWS SDK takes minutes; and a `rust-version` with which every locked crate builds."""

import collections
import json
import pathlib
import subprocess
import tomllib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ["receiver", "processor", "publisher", "sender", "registrar", "tools", "tests"]
# The kinds of events differ by function. Only a function's own code depends on this crate.
DIFFERENT = {"aws_lambda_events"}


class FeaturesTest(unittest.TestCase):
    def test_the_features_are_the_same_for_all_packages(self):
        found = collections.defaultdict(lambda: collections.defaultdict(set))
        for package in PACKAGES:
            tree = ["cargo", "tree", "--locked", "-p", package, "-e", "normal,build", "--prefix", "none", "-f", "{p}|{f}"]
            listed = subprocess.run(tree, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            for line in filter(None, listed.splitlines()):
                crate, features = line.replace(" (*)", "").replace(" (proc-macro)", "").split("|")
                found[crate][features].add(package)
        self.assertGreater(len(found), 100, "cargo tree lists the crates")
        several = {crate: dict(sets) for crate, sets in found.items() if len(sets) > 1 and crate.split()[0] not in DIFFERENT}
        self.assertEqual(several, {}, "add the features that some lack to [workspace.dependencies] of Cargo.toml")

    def test_every_locked_crate_builds_with_the_rust_that_is_asked_for(self):
        metadata = ["cargo", "metadata", "--locked", "--format-version", "1"]
        packages = json.loads(subprocess.run(metadata, cwd=ROOT, check=True, capture_output=True, text=True).stdout)["packages"]
        number = lambda version: tuple(int(part) for part in version.split("."))
        ours = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
        newer = [p["name"] for p in packages if p["rust_version"] and number(p["rust_version"]) > number(ours) + (99,)]
        self.assertEqual(newer, [], f"they need a newer Rust than {ours}")
        channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
        self.assertEqual(channel.rsplit(".", 1)[0], ours, "rust-toolchain.toml and Cargo.toml say the same")


if __name__ == "__main__":
    unittest.main()
