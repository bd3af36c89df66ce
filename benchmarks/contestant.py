"""A library that runs a network in a process of its own, for as many turns as it is given.

Threads of a library spin on for some milliseconds after the last operation, its settings hold for a whole process, and its
memory is that of the process. So each library has a process, which sleeps while it waits for its turn: it reads a line of
JSON, [command, *arguments], and answers with one.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache, partial

import numpy as np

from benchmarks.measure import Turns, settle, timed
from benchmarks.networks import NETWORKS, PUBLISHED
from benchmarks.processes import ROOT, last_line

__all__ = ["Contestant", "Failed", "start"]

LIMIT = 300             # seconds until a process that does not answer is killed


class Failed(Exception):
    """A contestant cannot go on. `name` is its name, the text why."""

    def __init__(self, name, why):
        super().__init__(why)
        self.name = name


class Contestant:
    """The process of one library and one network, seen from outside. It ends with the `with` block.

    `command` runs a program that answers as this module does.

    Attributes
    ----------
    tasks : list of str; what it can do: "predict", and "train" if it trains
    """

    def __init__(self, name, network, threads, command=(sys.executable, "-m", "benchmarks.contestant"), **environment):
        self.name, self.errors = name, tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen([*command, name, network, str(threads)], cwd=ROOT, env=os.environ | environment,
                                        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(LIMIT / 60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def answer(self):
        """Return the next answer; raise Failed if the process ends instead, or does not answer within LIMIT."""
        timer, begun = threading.Timer(LIMIT, self.process.kill), time.monotonic()
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        hanging = time.monotonic() - begun >= LIMIT
        raise Failed(self.name, f"no answer in {LIMIT} s" if hanging else last_line(self.errors, self.process.wait()))

    def ask(self, *question):
        with suppress(BrokenPipeError):         # the answer says why
            print(json.dumps(question), file=self.process.stdin, flush=True)
        return self.answer()

    def turns(self, task, n, sleep=0):
        """Return what `measure.interleave` times: `task` on n images, after `sleep` seconds of sleep before each call."""
        return Turns(partial(self.ask, "times", task, n, sleep))

    def values(self, task, n, count=1):
        """Return the loss of each of `count` steps, or so many times the predictions."""
        return np.array(self.ask("values", task, n, count))

    def memory(self):
        """Return (the resident set now, the largest that it was), MB."""
        return self.ask("memory")


def start(stack, names, network, threads):
    """Return ({name: Contestant}, {name of one that failed: why}); all start at once, and end with the ExitStack."""
    started = [stack.enter_context(Contestant(name, network.name, threads)) for name in names]
    there, absent = {}, {}
    for contestant in started:
        try:
            contestant.tasks = contestant.answer()
            there[contestant.name] = contestant
        except Failed as error:
            absent[contestant.name] = str(error)
    return there, absent


# ---- Inside of the process -------------------------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    networks = NETWORKS | PUBLISHED
    parser.add_argument("network", choices=networks)
    parser.add_argument("threads", type=int)
    chosen = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)               # what a library prints is no answer
    settle(chosen.threads)
    from benchmarks.peers import build

    network = networks[chosen.network]
    peer, images = build(chosen.name, network, chosen.threads), network.images()
    call = cache(partial(peer.call, *images))

    def times(task, n, sleep, count):
        if task == "train":         # each turn from the first weights on: a network that fits its images is faster
            peer.restore()
        return timed(call(task, n), count, sleep)

    def values(task, n, count):
        return [np.asarray(call(task, n)()).tolist() for _ in range(count)]

    commands, answer = {"times": times, "values": values, "memory": memory}, ["predict"] + ["train"] * bool(peer.train)
    while True:
        print(json.dumps(answer), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        command, *arguments = json.loads(line)
        answer = commands[command](*arguments)


def memory():
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
