"""`make fuzz`: each target of shared/commerce/tests/fuzz for some seconds, by cargo-fuzz where a nightly toolchain can be
had, and by the mutations of the tests otherwise. Inputs that fail, and what cargo-fuzz learns, stay in .local/fuzz."""

import os
import shutil
import subprocess
import sys
import time

from common import LOCAL, ROOT, fail, say

CARGO_FUZZ = "0.13.2"
FOLDER = LOCAL / "fuzz"
CRATE = ROOT / "shared/commerce/fuzz"


def quiet(*command, **options):
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def cargo_fuzz():
    """Returns cargo-fuzz, or None with the reason said: it needs a nightly toolchain and a C++ compiler."""
    if os.environ.get("STABLE"):
        return None
    if not shutil.which("rustup"):
        return say("  no rustup, so no nightly toolchain")
    if quiet("rustup", "run", "nightly", "rustc", "--version").returncode:
        say("  asking for a nightly toolchain")
        if quiet("rustup", "toolchain", "install", "nightly", "--profile", "minimal").returncode:
            return say("  no nightly toolchain can be had")
    binary = LOCAL / "bin/cargo-fuzz"
    if not binary.exists() or CARGO_FUZZ not in quiet(binary, "--version").stdout:
        say("  installing cargo-fuzz into .local (once)")
        command = ["cargo", "install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--root", LOCAL, "--quiet", "--force"]
        if quiet(*command).returncode:
            return say("  cargo-fuzz cannot be installed")
    return binary


def driver(**environment):
    """Runs the tests of the targets, with their own mutations."""
    command = ["cargo", "test", "--locked", "-p", "commerce", "--test", "fuzz", "no_input", "--", "--nocapture"]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, env=os.environ | environment)


def main():
    seconds = int(os.environ.get("FOR") or 60)
    corpus = FOLDER / "corpus"
    if driver(FUZZ_CORPUS=str(corpus)).returncode:
        fail("the samples cannot be written")
    names = sorted(path.name for path in corpus.iterdir())
    chosen = [name for name in names if os.environ.get("TARGET") in {None, "", name}]
    if not chosen:
        fail(f"TARGET is one of {', '.join(names)}")
    say(f"{len(chosen)} targets, {seconds} s each")
    binary = cargo_fuzz()
    environment = os.environ | {"RUSTUP_TOOLCHAIN": "nightly", "CARGO_TARGET_DIR": str(FOLDER / "target")}
    if binary:
        build = [binary, "fuzz", "build", "--fuzz-dir", CRATE, "target"]
        if subprocess.run(build, cwd=CRATE, stdin=subprocess.DEVNULL, env=environment).returncode:
            say("  the nightly toolchain cannot build the targets")
            binary = None
    wrong = []
    if not binary:
        seed = str(int(os.environ.get("SEED") or time.time()))
        say(f"  fuzzing on stable Rust with the tests' own mutations, without coverage; seed {seed}")
        for name in chosen:
            done = driver(FUZZ_TARGET=name, FUZZ_SECONDS=str(seconds), FUZZ_SEED=seed, FUZZ_KEEP=str(FOLDER / "failed"))
            wrong += [name] if done.returncode else []
    for name in chosen if binary else []:
        say(f"\n== {name}")
        failed = FOLDER / "failed" / name
        failed.mkdir(parents=True, exist_ok=True)
        run = [binary, "fuzz", "run", "--fuzz-dir", CRATE, "target", corpus / name, "--"]
        run += [f"-max_total_time={seconds}", f"-artifact_prefix={failed}/", "-rss_limit_mb=1024", "-timeout=20"]
        run += ["-max_len=65536", "-print_final_stats=1", "-verbosity=0", "-close_fd_mask=1"]
        done = subprocess.run(run, cwd=CRATE, stdin=subprocess.DEVNULL, env=environment | {"FUZZ_TARGET": name})
        wrong += [name] if done.returncode else []
    if wrong:
        fail(f"failed: {', '.join(wrong)}; the inputs are in {FOLDER.relative_to(ROOT)}/failed")
    say("\nAll is well.")


if __name__ == "__main__":
    sys.exit(main())
