"""The field's words: phrases that are not used, each with the term to use instead. File names and columns are exempt."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHRASES = {
    r"\b(test|training|validation) part\b": "test, training, validation set",
    r"\bparts? of (a|the) split\b": "split",
    r"\bin which part\b": "in which split",
    r"\bknows? (the |its |their )?patients\b": "patient-clustered",
    r"\b(ask(s|ed)?|asking) another hospital\b": "external validation",
    r"\banother hospital, (the|recipe)\b": "external validation",
    r"\b(sources? (un|never )seen|unseen sources?|sources? that training has (not|never|seen nothing))\b": "leave-one-source-out",
    r"\bwant of precision\b": "insufficient precision",
    r"\b(gives?|gave|given) (the |these |its |their )?labels? away\b": "confounder",
    r"\b(asks?|asked|whether) it is the lungs\b": "shortcut test",
    r"\bpictures? (un)?like those\b": "out-of-distribution image",
    r"\b(grey|coloured|synthetic|radiographic) pictures?\b": "image",
    r"\bpictures? of (a |the )?(radiographs?|files?|patients?|chests?)\b": "image",
    r"\bthe (figure|figures) (is|are|was|were|in the table)\b": "value, metric",
    r"\b(numba|upper|lower|data|this|that|which|new|other) rooms?\b": "group, package",
    r"\brooms? (below|above|do|does)\b": "group, package",
    r"\b(public|the) doors?\b": "public API",
    r"\b(layers?|loss(es)?|functions?) of (the user's|your|a user's) own\b": "custom layer",
    r"\b(plan|plans) of (a|the|its) run\b": "config",
    r"\b(sources?) of (batches|samples|images to train)\b": "dataset, loader",
    r"\bMarkdown twin\b": "Markdown version",
    r"\b(says?|said|saying) no\b": "fails, refuses",
    r"\bthe company it is in\b": "the other images of the batch",
    r"\bwhat cannot be true in its table\b": "arithmetic check of the table",
}
FILES = sorted(path for folder in ("minicnn", "tests", "benchmarks", "examples", ".")
               for pattern in ("*.py", "*.md", "*.toml", "*.html", "*.js")
               for path in (ROOT.glob(pattern) if folder == "." else (ROOT / folder).rglob(pattern)) if path != Path(__file__))


def found(text):
    """Yield (line, phrase found, what to say instead); a phrase may run over the end of a line."""
    flat = re.sub(r"\s+", lambda space: " " * len(space[0]), text)
    for phrase, instead in PHRASES.items():
        for match in re.finditer(phrase.replace(" ", r"\s+"), flat, re.I):
            yield text.count("\n", 0, match.start()) + 1, re.sub(r"\s+", " ", match[0]), instead


def test_the_fields_words_are_used():
    stumbles = [f"{path.relative_to(ROOT)}:{line}: {phrase!r}; say {instead}" for path in FILES
                for line, phrase, instead in found(path.read_text(encoding="utf-8"))]
    assert len(FILES) > 300 and not stumbles, "\n".join(stumbles)


@pytest.mark.parametrize("text", ["the test\n    part", "intervals that know patients", "asks another hospital", "the numba room:"])
def test_the_tester_sees_a_phrase(text):
    assert list(found(text)) and not list(found("The test set of another partition; rooms of a hospital."))
