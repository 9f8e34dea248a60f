"""The shared parts of this folder's commands: paths, messages on the terminal, and waiting."""

import hashlib
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
VENV = LOCAL / "venv"
PINNED = pathlib.Path(__file__).with_name("requirements.lock")
# With `VERBOSE=1`, the commands say more.
VERBOSE = os.environ.get("VERBOSE", "") not in {"", "0"}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Step:
    """The sign of a long step: on a terminal, with its time so far and the last line of its log."""

    def __init__(self, what, log=None):
        self.what, self.log, self.over = what, log, threading.Event()

    def __enter__(self):
        self.started = time.monotonic()
        print(f"  {self.what} ... ", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            threading.Thread(target=self.watch, daemon=True).start()
        return self

    def watch(self):
        while not self.over.wait(1):
            last = last_line(self.log) if self.log else ""
            line = f"  {self.what} ... {time.monotonic() - self.started:.0f} s  {last}"
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]}\033[K", end="", file=sys.stderr, flush=True)

    def __exit__(self, kind, *_):
        self.over.set()
        took = time.monotonic() - self.started
        result = f"{'failed' if kind else 'done'} ({took:.0f} s)" if took >= 1 or kind else "done"
        say(f"\r  {self.what} ... {result}\033[K" if sys.stderr.isatty() else result)


def last_line(log):
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""


def fail(text):
    say(f"\n{text}")
    sys.exit(1)


def quiet(command, log, **options):
    """Runs a command with its output in a file. Shows the end of the file if the command fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        say("\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))
        fail(f"{shlex.join(map(str, command))} failed; all it said is in {log}")


def digest(paths):
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def enter_venv():
    """Makes the virtual environment if it is missing or not as pinned, and runs the same command in it."""
    if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
        return
    stamp = VENV / "pinned"
    wanted = digest([PINNED])
    if not stamp.exists() or stamp.read_text() != wanted:
        with Step("installing SAM, cargo-lambda and the local AWS into .local/venv"):
            quiet([sys.executable, "-m", "venv", "--clear", VENV], LOCAL / "logs/venv.log")
            # --no-deps, because the list is complete, and cargo-lambda would otherwise bring a compiler that is not
            # needed.
            pip = [VENV / "bin/pip", "install", "--disable-pip-version-check", "--no-deps", "-r", PINNED]
            quiet(pip, LOCAL / "logs/pip.log")
            stamp.write_text(wanted)
    os.execv(VENV / "bin/python", [VENV / "bin/python", *sys.argv])


def call(method, url, body=None, headers=None):
    """Sends a request, and returns the status, the headers and the body of the answer."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, dict(answer.headers), answer.read()


def is_zombie(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def free_port(first):
    for port in range(first, first + 100):
        with socket.socket() as probe:
            # Ports that an earlier process leaves occupied for a minute are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    fail(f"no port from {first} to {first + 99} is free; free one and try again")


def wait_for(condition, seconds, otherwise, every=0.05):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            fail(otherwise)
        time.sleep(every)
