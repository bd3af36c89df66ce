"""Progress on stderr: a bar with rate and remaining time on a terminal, plain lines otherwise."""

import sys
import time

__all__ = ["Progress", "announce"]


class Progress:
    """A bar that counts from `done` to `total`; `say` prints a permanent line, `begin` one on what is being counted.

    Within a bar over all of a work there can be others, below it, over what it counts.

    A bar needs a terminal; without tqdm (extra `app`) it is a count. Without a terminal only the lines of `say` appear.
    With enabled=False nothing does. `done` counts in any case.

    >>> with Progress(2, "epoch 1/1", enabled=False) as progress:
    ...     progress.advance()
    >>> progress.done
    1
    """

    def __init__(self, total, label, unit="it", enabled=True, done=0):
        self._form, self._bar, self._enabled, self.done = (total, label, unit, done), None, enabled, done

    def advance(self, n=1, **metrics):
        """Advance the bar by n, and show metrics such as loss=0.31 after it."""
        self.done += n
        if self._bar is not None:
            if metrics:
                self._bar.set_postfix({name: f"{value:.4f}" for name, value in metrics.items()}, refresh=False)
            self._bar.update(n)

    def begin(self, label):
        """Print a line on what begins, and show it before the bar."""
        if self._bar is not None:
            self._bar.set_description(label)
        self.say(label)

    def say(self, line):
        """Print a line above the bars."""
        if self._enabled:
            try:
                if self._bar is not None:
                    self._bar.write(line, file=sys.stderr)
                else:
                    print(line, file=sys.stderr, flush=True)
            except OSError:
                self._enabled = False       # stderr is closed; the work continues

    def __enter__(self):
        # Made only here: a signal before would leave a bar that is drawn again when it is collected, after the last line.
        if self._enabled and self._form[0] and sys.stderr.isatty():
            self._bar = _bar(*self._form)
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()


def announce(line, enabled=True):
    """Print a line on what begins where no bar can show it: stderr is no terminal."""
    if not sys.stderr.isatty():
        Progress(0, "", enabled=enabled).say(line)


def _bar(total, label, unit, done):
    try:
        from tqdm import tqdm
    except ImportError:
        return _Count(total, label, unit, done)
    return tqdm(total=total, initial=done, desc=label, unit=unit, leave=False, dynamic_ncols=True, file=sys.stderr)


class _Count:
    """What stands for a bar of tqdm: a count that is written over itself, ten times a second at most."""

    def __init__(self, total, label, unit, done):
        self._of, self._done, self._shown = f"of {total:,} {unit}s", done, 0.0
        self.set_description(label)

    def set_description(self, label):
        self._label, self._shown = label, 0.0
        self.update(0)

    def update(self, n):
        self._done += n
        if time.monotonic() - self._shown > 0.1:
            self._shown = time.monotonic()
            self._write(f"\r\x1b[K{self._label}: {self._done:,} {self._of}")

    def set_postfix(self, metrics, refresh):
        pass

    def clear(self):
        self._write("\r\x1b[K")

    close = clear

    def write(self, line, file):
        self.clear()
        print(line, file=file, flush=True)

    def _write(self, text):
        try:
            print(text, end="", file=sys.stderr, flush=True)
        except OSError:
            pass            # stderr is closed; the work continues
