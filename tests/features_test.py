"""Holds that every package asks for the same features of the crates that it shares with the others: cargo compiles a crate once for each
set of features, and the AWS SDK takes minutes."""

import collections
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ["receiver", "processor", "registrar", "tools", "tests"]
# The kinds of events differ by function. Only a function's own code is built on this crate.
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


if __name__ == "__main__":
    unittest.main()
